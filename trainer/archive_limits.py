"""What an archive may cost, counted on bytes that were really unpacked, and how one is refused."""

from dataclasses import dataclass

RATIO_FLOOR = 2**20  # bytes; below it no ratio can hurt, and a folder of tiny drawn images compresses without end


class ArchiveError(ValueError):
    """An archive is refused as a whole, with a stable `code`.

    not_an_archive        no zip, tar, tar.gz or tar.zst by its first bytes
    corrupt_archive       truncated, bad checksum, sizes that don't add up
    unsupported_archive   encrypted, split, or compressed by an unusual method
    unsafe_path           a name that is absolute, climbs with `..`, or holds NUL, a backslash or a drive letter
    unsafe_member         a link, a device, a sparse file
    duplicate_path        two members of the same name, after Unicode NFC
    too_large             over a limit, or built to unpack to more than it says
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class ArchiveLimits:
    """Of one archive: bytes unpacked in all and in one member, unpacked over packed bytes, members."""

    max_bytes: int
    max_member_bytes: int
    max_ratio: int
    max_entries: int


class Meter:
    """Counts what one pass over an archive unpacks; every method raises ArchiveError `too_large` at a limit."""

    def __init__(self, limits: ArchiveLimits, *, packed_bytes: int) -> None:
        self.limits = limits
        self.packed_bytes = packed_bytes
        self._num_entries = 0
        self._num_bytes = 0
        self._content_bytes = 0

    def entry(self) -> None:
        """Count a member, folders and metadata included."""
        self._num_entries += 1
        if self._num_entries > self.limits.max_entries:
            raise ArchiveError("too_large", f"the archive has more than {self.limits.max_entries} entries")

    def admit(self, name: str, num_bytes: int) -> None:
        """Refuse a member that says it is over the limit, before a byte of it is read."""
        if num_bytes > self.limits.max_member_bytes:
            limit = self.limits.max_member_bytes
            raise ArchiveError("too_large", f"{name!r} has {num_bytes} bytes, at most {limit} are allowed")

    def unpacked(self, num_bytes: int) -> None:
        """Count unpacked bytes of any kind: content, headers, padding."""
        self._num_bytes += num_bytes
        if self._num_bytes > self.limits.max_bytes:
            raise ArchiveError("too_large", f"the archive unpacks to more than {self.limits.max_bytes} bytes")

    def content(self, num_bytes: int) -> None:
        """Count a member's content towards the ratio; tar headers compress too well to count."""
        self._content_bytes += num_bytes
        if self._content_bytes > max(RATIO_FLOOR, self.limits.max_ratio * self.packed_bytes):
            ratio = self.limits.max_ratio
            raise ArchiveError("too_large", f"the archive unpacks to more than {ratio} times its size")
