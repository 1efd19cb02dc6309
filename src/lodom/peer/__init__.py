"""How one ldmd talks to another: who it is, whom it trusts, and what goes over the wire.

HTTPS with TLS 1.3; every request but the first two is signed with the sender's key.
"""
