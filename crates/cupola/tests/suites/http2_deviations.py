"""Where the h2 crate, which speaks HTTP/2 for the router, does something else than RFC 9113 says, and why that harms nobody.

A case is a known deviation only if it is named here and fails in the way that its reason describes; one that passes must leave
the list.
"""

import re

OTHER_WORD = "the connection ends with GOAWAY as it must, but the code says PROTOCOL_ERROR: the crate has one code for whatever its frame and HPACK decoders refuse"
WHOLE_CONNECTION = "a name or value that HTTP does not allow is refused in the HPACK decoder, so GOAWAY ends the connection instead of RST_STREAM the stream: stricter than asked"
FIRST_FRAME = "a first frame other than SETTINGS is served, which gives the client nothing: all defaults apply"
PSEUDO_TRAILERS = "pseudo headers among trailers are dropped unseen: they reach no backend"

# reason -> (how the case must fail, the cases)
KNOWN = {
    OTHER_WORD: (
        r"GOAWAY PROTOCOL_ERROR, expected ",
        """6.5 SETTINGS of 5 bytes|6.5 SETTINGS of 7 bytes|6.5 SETTINGS ACK with a payload|6.7 PING of 7 bytes|6.7 PING of 9 bytes|6.7 an empty PING
        |6.4 RST_STREAM of 3 bytes|6.4 RST_STREAM of 5 bytes|6.9 WINDOW_UPDATE of 3 bytes|6.9 WINDOW_UPDATE of 5 bytes|6.3 PRIORITY of 4 bytes
        |6.3 PRIORITY of 6 bytes|6.8 GOAWAY of 7 bytes|4.3 a block that is no HPACK|5.1 half closed: DATA|6.5.2 INITIAL_WINDOW_SIZE 2^31
        |8.1 DATA after trailers|7541 index 0|7541 an index beyond the tables|7541 index 62 of an empty table|7541 a name's index beyond the tables
        |7541 a huge index|7541 an integer without an end|7541 an integer cut off|7541 a literal cut off|7541 a string longer than the block
        |7541 Huffman: padding of 11 bits|7541 Huffman: padding of zeros|7541 Huffman: EOS|7541 a table size above the limit
        |7541 a table size at the end|7541 a table size in the middle|7541 size 0 empties the table|7541 an entry larger than the table empties it
        |7541 older entries are evicted""",
    ),
    WHOLE_CONNECTION: (
        r"GOAWAY\(.* PROTOCOL_ERROR\)",
        """8.2.1 an upper-case name|8.2.1 a space in a name|8.2.1 a colon in a name|8.2.1 a control character in a name|8.2.1 0x80 in a name
        |8.2.1 an empty name|8.2.1 NUL in a value|8.2.1 LF in a value|8.2.1 CR in a value|8.3 an unknown pseudo header|8.1 trailers in upper case
        |7541 the table of a malformed request counts""",
    ),
    FIRST_FRAME: (r"no connection error PROTOCOL_ERROR", "3.4 PING as the first frame|3.4 HEADERS as the first frame"),
    PSEUDO_TRAILERS: (r"no stream error; status 200", "8.1 trailers with a pseudo header"),
}
REASONS = {name.strip(): (reason, re.compile(how)) for reason, (how, names) in KNOWN.items() for name in names.split("|")}


def reason(name, problem):
    """Why this failure of this case is known and harmless, or None."""
    why, how = REASONS.get(name, (None, None))
    return why if why and how.search(problem) else None
