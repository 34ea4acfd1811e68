"""PNG files as far as the tests need them: written in RGB or with a palette, and read from the browser's screenshots."""

import struct
import zlib
from collections import Counter

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def file(width, height, kind, rows, palette=b""):
    """A whole file; `rows` holds a filter byte before each row."""
    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    colours = chunk(b"PLTE", palette) if palette else b""
    return SIGNATURE + chunk(b"IHDR", head) + colours + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def rgb(width, height, colour):
    """A picture of `colour(x, y)`."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in colour(x, y)) for y in range(height))
    return file(width, height, 2, rows)


def chunks(png):
    at = len(SIGNATURE)
    while at < len(png):
        length, name = struct.unpack(">I4s", png[at : at + 8])
        yield name, png[at + 8 : at + 8 + length]
        at += 12 + length


def size(png):
    """Width and height."""
    assert png.startswith(SIGNATURE), "this is no PNG file"
    return struct.unpack(">II", dict(chunks(png))[b"IHDR"][:8])


def pixels(png):
    """Width, height, and the colours row after row of an 8-bit RGB or RGBA file."""
    head = dict(chunks(png))[b"IHDR"]
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    assert depth == 8 and kind in (2, 6) and not interlaced, "not the kind of PNG that browsers write"
    step = 3 if kind == 2 else 4
    data = zlib.decompress(b"".join(data for name, data in chunks(png) if name == b"IDAT"))
    stride = width * step
    above, found = bytearray(stride), []
    for y in range(height):
        filtered = data[y * (stride + 1)]
        row = bytearray(data[y * (stride + 1) + 1 : (y + 1) * (stride + 1)])
        unfilter(filtered, row, above, step)
        found.extend((row[x], row[x + 1], row[x + 2]) for x in range(0, stride, step))
        above = row
    return width, height, found


def unfilter(kind, row, above, step):
    """Undoes a row's filter in place (PNG specification, 9.2)."""
    for x in range(len(row)):
        left = row[x - step] if x >= step else 0
        up, corner = above[x], above[x - step] if x >= step else 0
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = up
        elif kind == 3:
            guess = (left + up) // 2
        elif kind == 4:
            estimate = left + up - corner
            guess = min((left, up, corner), key=lambda value: abs(estimate - value))
        else:
            guess = 0
        row[x] = (row[x] + guess) & 255


def with_palette(png):
    """The same picture in 256 of its colours, each other one replaced by the nearest of them: a third of the size."""
    width, height, found = pixels(png)
    counted = Counter(found)
    # Half of them are the most frequent ones, of which those that differ little share a place; the rest are of every hue that is left.
    palette = []
    for bits, count in ((3, 160), (5, 256)):
        key = lambda colour: tuple(value >> bits for value in colour)
        covered = {key(colour) for colour in palette}
        for colour, _ in counted.most_common():
            if len(palette) < count and key(colour) not in covered:
                covered.add(key(colour))
                palette.append(colour)

    def distance(a, b):
        return sum((x - y) ** 2 for x, y in zip(a, b))

    nearest = {colour: min(range(len(palette)), key=lambda at: distance(palette[at], colour)) for colour in counted}
    rows = b"".join(
        b"\0" + bytes(nearest[colour] for colour in found[y * width : (y + 1) * width]) for y in range(height)
    )
    return file(width, height, 3, rows, bytes(value for colour in palette for value in colour))
