"""One message of every kind, with a body."""

from holdfast.formats.contents import LeftOut
from holdfast.formats.magic import Codec
from holdfast.formats.mover import messages as m
from holdfast.formats.mover.bodies import Run, pack_pieces, pack_runs

KEY = bytes(range(32))
DIGESTS = [bytes([at]) * 16 for at in range(1, 4)]

GRANT = '{"repository":"vault","chain":"web-0123/chain","number":1,"disk":"disk-0","expires_s":1,"salt":"00"}'

SAMPLES: list[tuple[m.AnyHead, bytes]] = [
    (m.OpenDisk(grant=GRANT, lies_at="[nfs01] web/web.vmdk"), b""),
    (m.DigestsOf(first=16, count=3), b""),
    (m.Offer(first=16, count=3), b"".join(DIGESTS)),
    (m.Keep(until=16), b""),
    (m.Zero(first=24, until=32), b""),
    (
        m.Unit(number=7, count=3, codec=Codec.ZSTD, body_crc=0x89ABCDEF),
        pack_pieces([16, 17, 18], DIGESTS) + b"packed",
    ),
    (m.Describe(detail="changed: the provider tracks changes", left_out=LeftOut(deleted=True)), b""),
    (m.Finish(), b""),
    (m.Cancel(reason="stopped"), b""),
    (m.KeptFile(name="web.nvram"), b"variables"),
    (m.LostFile(name="web.vmx", reason="damaged"), b""),
    (
        m.DiskOpened(
            machine="web",
            size_bytes=10 << 30,
            change_id="52 a0/4",
            unit_size=1 << 20,
            digest_key=KEY,
            parent_size_bytes=8 << 30,
            parent_change_id=None,
            at_rest=True,
            parent_left_out=LeftOut(deleted=True, swap=((0, 4096),)),
            moves=1,
        ),
        b"",
    ),
    (m.Digests(first=16, count=3), b"".join(DIGESTS)),
    (m.Wanted(first=16, count=11, place=112), m.pack_bitmap([0, 2, 10], 11)),
    (
        m.Standing(
            taken=32,
            committed=19,
            stored_bytes=1,
            transferred_bytes=2,
            read_bytes=3,
            resent_bytes=4,
            seal_s=0.5,
            target_s=0.25,
            commit_wait_s=0.0,
        ),
        b"",
    ),
    (m.Finished(), b""),
    (m.Failure(code="repository-full", message="no space in cellar", hint="Free space."), b""),
    (m.Paced(rate_bytes_s=4e6, because="throttling rule office", waited_s=2.5), b""),
    (m.RunsOf(first=0, count=163840), b""),
    (m.GetUnit(file=0, number=7), b""),
    (
        m.StoredOpened(
            machine="web",
            size_bytes=10 << 30,
            change_id=None,
            is_doubted=True,
            pieces_per_unit=(16, 64),
            digest_key=KEY,
            left_out=LeftOut(deleted=True, swap=((65536, 65536),)),
        ),
        b"",
    ),
    (m.Runs(first=0, count=2), pack_runs([Run(16, None, 0), Run(3, 0, 112)])),
    (m.StoredUnit(file=0, number=7, count=3, codec=Codec.LZ4), b"".join(DIGESTS) + b"packed"),
]
