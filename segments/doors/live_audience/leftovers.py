"""
Deletes files in the partners' folders without further use.

    begun by SFTP and never finished      `SEGMENTS_ABANDONED_UPLOAD_DAYS` after its last byte
    described by no metadata file         likewise
    refused for its metadata              `SEGMENTS_REFUSED_FILE_H` after the refusal and after its
                                          last byte; until then corrected metadata find it
    answers                               after `SEGMENTS_STATUS_DAYS`

A refusal is noted under the file name in the metadata, because the file may come after them.
"""

import logging

from segments.doors.live_audience import rules
from segments.doors.live_audience.folder import DropFolder, Folder
from segments.doors.live_audience.metrics import DeliveryMetrics
from segments.doors.live_audience.options import DropOptions

_log = logging.getLogger(__name__)


def sweep(
    folders: DropFolder, options: DropOptions, metrics: DeliveryMetrics, now_s: float
) -> None:
    """Delete all files whose time is over, in every folder."""
    before_s = now_s - options.abandoned_after_s
    for partner_id, folder in folders.all():
        answers = folder.drop_answers(now_s - options.answers_kept_s)
        if answers:
            _log.info("%d answers to %r deleted, which were old", answers, partner_id)
        dropped = folder.drop_abandoned(before_s)
        if dropped:
            _log.info("%d abandoned uploads of %r deleted", dropped, partner_id)
        for _ in range(dropped):
            metrics.upload("abandoned")
        unused = folder.drop_undescribed(before_s)
        unused += drop_refused(folder, now_s - options.refused_file_s)
        if unused:
            _log.info("%d data files of %r deleted, which nothing describes", unused, partner_id)


def drop_refused(folder: Folder, before_s: float) -> int:
    """
    Delete data files whose metadata were refused before a time, and return how many.

    A file changed since may be the next of its name, and stays as long again.
    """
    dropped = 0
    for file_name in folder.refused(before_s):
        dropped += folder.drop_older(rules.data_files(file_name, folder.names()), before_s)
        if not rules.data_files(file_name, folder.names()):
            folder.forget_refused(file_name)
    return dropped
