"""``ldmd --doctor``: what this host has and lacks for Lodom, each lack with its remedy.

``form`` is what is said, ``decide`` turns facts into it, ``local`` reads the facts of this host,
``peer`` those that take two machines, ``run`` is the command.
"""
