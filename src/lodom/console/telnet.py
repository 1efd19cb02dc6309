"""The little telnet that vntsd speaks.

A protocol of our own, not telnetlib3's: vntsd opens with ten fixed demands, and answers WILL to
whatever is asked; a library that negotiates by the book (RFC 1143) can do neither.
"""

from enum import Enum

IAC, DONT, DO, WONT, WILL, SB, SE = 255, 254, 253, 252, 251, 250, 240
AYT, BRK = 246, 243
_ECHO, _SGA, _STATUS, _TM, _TTYPE = 1, 3, 5, 6, 24
_NAWS, _SPEED, _FLOW, _LINEMODE, _ENVIRON = 31, 32, 33, 34, 36

GREETING = bytes(
    byte
    for verb, option in (
        (DONT, _LINEMODE),
        (WILL, _SGA),
        (WILL, _ECHO),
        (DONT, _TTYPE),
        (DONT, _SPEED),
        (DONT, _STATUS),
        (DONT, _FLOW),
        (DONT, _TM),
        (DONT, _ENVIRON),
        (DONT, _NAWS),
    )
    for byte in (IAC, verb, option)
)
"""What vntsd sends first: the client is to send each key at once, and not to echo it."""

BREAK = -1
"""The key that telnet's BRK is; the others are bytes, 0 to 255."""

EOL = b"\r\n"


class _State(Enum):
    DATA = 0
    CR = 1
    COMMAND = 2
    OPTION = 3
    SUB = 4
    SUB_IAC = 5


class Telnet:
    """One client's stream, decoded byte by byte.  ``replies`` is to be sent, and emptied."""

    def __init__(self) -> None:
        self.replies = bytearray()
        self._state = _State.DATA
        self._verb = 0
        self._answered: set[tuple[int, int]] = set()

    def keys(self, received: bytes) -> list[int]:
        """The keys pressed.  Enter is one key, CR, whether it came as CR LF, CR NUL or CR."""
        found: list[int] = []
        for byte in received:
            key = self._take(byte)
            if key is not None:
                found.append(key)
        return found

    def _take(self, byte: int) -> int | None:
        state, self._state = self._state, _State.DATA
        match state:
            case _State.COMMAND:
                return self._command(byte)
            case _State.OPTION:
                self._answer(byte)
                return None
            case _State.SUB:
                self._state = _State.SUB_IAC if byte == IAC else _State.SUB
                return None
            case _State.SUB_IAC:
                self._state = _State.DATA if byte == SE else _State.SUB
                return None
        if byte == IAC:
            self._state = _State.COMMAND
            return None
        if state is _State.CR and byte in b"\n\0":
            return None
        if byte == 13:
            self._state = _State.CR
        return byte

    def _command(self, byte: int) -> int | None:
        if byte == IAC:
            return IAC
        if byte == BRK:
            return BREAK
        if byte == AYT:
            self.replies += b"[Yes]" + EOL
        elif byte == SB:
            self._state = _State.SUB
        elif byte in (DO, DONT, WILL, WONT):
            self._verb, self._state = byte, _State.OPTION
        return None

    def _answer(self, option: int) -> None:
        """To DO and DONT the answer is WILL; once each, or a stubborn client would loop with us."""
        asked = (self._verb, option)
        if self._verb in (DO, DONT) and asked not in self._answered:
            self._answered.add(asked)
            self.replies += bytes((IAC, WILL, option))


def escaped(output: bytes) -> bytes:
    """Bytes of a guest as telnet data."""
    return output.replace(b"\xff", b"\xff\xff")
