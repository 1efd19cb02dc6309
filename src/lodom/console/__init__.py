"""The virtual console concentrator (vcc): guests' consoles on telnet ports, as vntsd gives them.

Source: ldm-cli digest 3.7.
"""
