"""Protobuf written field by field, so that a test can leave one out, put one in, or put nonsense."""


def varint(number):
    """A base-128 varint."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def field(number, value):
    """One field: an int, or what is bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message):
    """[(number, value)] of a message of varints and length-delimited fields."""
    found, at = [], 0

    def take_varint():
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number

    while at < len(message):
        key = take_varint()
        if key & 7 == 0:
            found.append((key >> 3, take_varint()))
        else:
            assert key & 7 == 2, f"wire type {key & 7}"
            length = take_varint()
            found.append((key >> 3, bytes(message[at : at + length])))
            at += length
    return found
