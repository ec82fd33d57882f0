"""What ends a backup or a restore.

BackupError
├── NotWritten    a backup can't be written
├── NotRestored   a backup can't be restored here; the target is as it was
└── Damaged       a backup isn't as it was written
"""


class BackupError(RuntimeError):
    """The message says what was wrong and what to do."""


class NotWritten(BackupError):
    """A backup can't be written."""


class NotRestored(BackupError):
    """A backup can't be restored here; the target is as it was."""


class Damaged(BackupError):
    """A backup isn't as it was written."""
