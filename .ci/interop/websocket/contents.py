"""What is sent, back and forth."""

# Around every border of a frame's length, and large.
SIZES = (0, 1, 125, 126, 65_535, 65_536, 1 << 20)


def text_of(size):
    """Letters of one to four bytes."""
    text = ("a\u00e9\u20ac\U0001d11e" * (size // 10 + 1)).encode()[:size].decode(errors="ignore").encode()
    return text + b"." * (size - len(text))


def similar(count):
    """Messages as a watcher gets them."""
    return [b'{"type":"put","key":"app/%d","revision":%d,"createRevision":3,"value":"the state of number %d, which is long"}'
            % (n % 7, 1000 + n, n) for n in range(count)]
