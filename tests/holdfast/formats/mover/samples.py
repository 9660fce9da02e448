"""One message of every kind, with a body."""

from holdfast.formats.magic import PIECE_SIZE, Codec
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.bodies import Run, pack_pieces, pack_runs
from holdfast.model.compression import Compression

KEY = bytes(range(32))
DIGESTS = [bytes([at]) * 16 for at in range(1, 4)]

SAMPLES: list[tuple[m.AnyHead, bytes]] = [
    (m.OpenPointDisk(chain="web-0123/chain", file="00000001-full.hfc", point=1, disk="disk-0", attempt=2), b""),
    (m.DigestsOf(first=16, count=3), b""),
    (m.Offer(first=16, count=3), b"".join(DIGESTS)),
    (m.Keep(until=16), b""),
    (m.Zero(until=32), b""),
    (m.Unit(number=7, count=3, codec=Codec.ZSTD), pack_pieces([16, 17, 18], DIGESTS) + b"packed"),
    (m.Commit(), b""),
    (m.Finish(read_bytes=5 << 30, detail="by digests"), b""),
    (m.Cancel(reason="stopped"), b""),
    (
        m.DiskOpened(
            size_bytes=10 << 30,
            cursor=16,
            unit_size=1 << 20,
            digest_key=KEY,
            compression=Compression.ZSTD_1,
            has_parent=True,
            read_bytes=PIECE_SIZE,
        ),
        b"",
    ),
    (m.Digests(first=16, count=3), b"".join(DIGESTS)),
    (m.Wanted(first=16, count=11, place=112), m.pack_bitmap([0, 2, 10], 11)),
    (m.Committed(cursor=19), b""),
    (m.Finished(read_bytes=1, transferred_bytes=2, stored_bytes=3, resent_bytes=4), b""),
    (m.Failure(code="repository-full", message="no space in cellar", hint="Free space."), b""),
    (m.OpenStored(chain="web-0123/chain", point=1, disk="disk-0"), b""),
    (m.RunsOf(first=0, count=163840), b""),
    (m.GetUnit(file=0, number=7), b""),
    (m.PieceDigestsOf(first=0, count=1024), b""),
    (m.StoredOpened(size_bytes=10 << 30, unit_size=1 << 20, digest_key=KEY), b""),
    (m.Runs(first=0, count=2), pack_runs([Run(16, None, 0), Run(3, 0, 112)])),
    (m.StoredUnit(file=0, number=7, count=3, codec=Codec.LZ4), b"".join(DIGESTS) + b"packed"),
]
