"""Backup and restore of the whole service: a folder with what all backups of it share, and what is of each.

    blobs/ab/abcdef…                    the content of blobs, by their sha256; the next backup adds what is new
    lock                                held by who writes
    snapshots/2026-11-26T004012.345Z/   a moment of the database, by its clock
        manifest.json                   what belongs to it (service/backup/manifest.py)
        manifest.sha256                 of that file; `sha256sum --check` reads it
        tables/job.copy.zst             a table's rows (service/backup/tables.py)

A snapshot is named when it is whole. Each needs nothing but `blobs/`.
"""
