"""Bugs of what is durable, and when: group commit, outbox, timers, suspects, the store, its lock and its checksums."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_CLOCK = "streamstate/engine/_clock.py"
_COMMITS = "streamstate/engine/_commits.py"
_ENGINE = "streamstate/engine/_engine.py"
_GUARD = "streamstate/storage/_guard.py"
_INTAKE = "streamstate/engine/_intake.py"
_LOCK = "streamstate/storage/_lock.py"
_OPEN = "streamstate/storage/_sqlite_open.py"
_OUTBOX = "streamstate/engine/_outbox.py"
_ROOM = "streamstate/engine/_room.py"
_STORE = "streamstate/storage/_sqlite.py"
_TIMERS = "streamstate/engine/_timers.py"
_TRIALS = "streamstate/engine/_trials.py"
_UPKEEP = "streamstate/engine/_upkeep.py"
_WATCHDOG = "streamstate/engine/_watchdog.py"
_WRITE = "streamstate/storage/_sqlite_write.py"

_COMMIT = [
    Mutant(
        "a batch is released when it is handed to the writer",
        _COMMITS,
        "            self._writing = loop.run_in_executor(self._writer, self._store.commit, batch)\n",
        "            self._released(batch, releases)\n"
        "            releases = Releases()\n"
        "            self._writing = loop.run_in_executor(self._writer, self._store.commit, batch)\n",
        "I1: acknowledged is durable",
        ("engine/test_commit_failure.py::test_nothing_of_a_failed_batch_leaves_and_a_restart_does_it_all",),
    ),
    Mutant(
        "a batch is released before it is committed in line",
        _COMMITS,
        "                batch, releases = self._seal()\n                try:\n",
        "                batch, releases = self._seal()\n"
        "                self._release(batch, releases)\n"
        "                try:\n",
        "I1: acknowledged is durable",
        (
            "engine/test_commit_failure.py::test_nothing_of_a_failed_batch_leaves_and_a_restart_does_it_all",
            "engine/test_commit_failure.py::test_a_call_that_waits_gets_the_error",
        ),
    ),
    Mutant(
        "a step starts before its turn is durable",
        "streamstate/engine/_executor.py",
        "            self._effects.apply(sender, effects)\n",
        "            self._effects.apply(sender, effects)\n"
        "            for each in core.commits.releases.steps:\n"
        "                self.start_step(*each)\n",
        "I1, §2: no action starts before its turn is durable",
        ("engine/test_commit_failure.py::test_nothing_of_a_failed_batch_leaves_and_a_restart_does_it_all",),
    ),
    Mutant(
        "an answer leaves before its turn is durable",
        "streamstate/engine/_executor.py",
        "        core.commits.releases.replies.extend((reply, outcome) for reply in replies)\n",
        "        for reply in replies:\n            reply.set_result(outcome)\n",
        "I1: acknowledged is durable",
        ("engine/test_commit_failure.py::test_a_call_that_waits_gets_the_error",),
    ),
    Mutant(
        "positions are reported before they are durable",
        _ENGINE,
        "        core.commits.commit()\n        if work or are_timers_left:\n",
        "        if self._committed is not None:\n"
        "            self._committed(core.commits.batch.positions)\n"
        "        core.commits.commit()\n"
        "        if work or are_timers_left:\n",
        "I10: reported offsets never pass what is durable",
        ("engine/test_commit_failure.py::test_nothing_of_a_failed_batch_leaves_and_a_restart_does_it_all",),
    ),
]

_OUT = [
    Mutant(
        "a message leaves before its turn is durable",
        "streamstate/engine/_effects.py",
        "        self._core.commits.batch.outbox.append(message)\n",
        "        self._core.outbox.release([message])\n",
        "I1: nothing leaves before the turn that decided it is durable",
        ("engine/test_commit_failure.py::test_nothing_of_a_failed_batch_leaves_and_a_restart_does_it_all",),
    ),
    Mutant(
        "a failed hand-over sends what was acknowledged again",
        _OUTBOX,
        "chunk = chunk[error.acknowledged :]",
        "chunk = chunk[:]",
        "§6: relayed in order, each once unless the process ends",
        ("engine/test_holes_what_is_kept.py::test_what_a_failed_hand_over_has_acknowledged_is_not_sent_again",),
    ),
    Mutant(
        "a failed hand-over skips a message",
        _OUTBOX,
        "chunk = chunk[error.acknowledged :]",
        "chunk = chunk[error.acknowledged + 1 :]",
        "I6: sends are neither lost nor doubled",
        ("engine/test_outbox_properties.py",),
    ),
    Mutant(
        "messages are done before the sink has them",
        _OUTBOX,
        "            await self._send(chunk)\n",
        "            self._acknowledged(self._cluster, chunk[-1].position)\n            await self._send(chunk)\n",
        "I1: a message is kept until the cluster has it",
        ("engine/test_outbox_properties.py",),
    ),
    Mutant(
        "more messages are done than the sink has",
        _OUTBOX,
        "self._acknowledged(self._cluster, chunk[-1].position)",
        "self._acknowledged(self._cluster, chunk[-1].position + 1)",
        "I1: a message is kept until the cluster has it",
        ("engine/test_outbox_properties.py",),
    ),
    Mutant(
        "new messages overtake those that wait in the store",
        _OUTBOX,
        "if self._is_spilled or len(self._waiting) >= IN_MEMORY_MAX:",
        "if len(self._waiting) >= IN_MEMORY_MAX:",
        "I4, §6: relayed in order",
        ("engine/test_outbox_properties.py",),
    ),
    Mutant(
        "messages of an earlier process are left in the store",
        _OUTBOX,
        "        self._is_spilled = True  # what",
        "        self._is_spilled = False  # what",
        "I6: sends are not lost",
        ("engine/test_outbox_properties.py",),
    ),
]

_TIME = [
    Mutant(
        "a timer fires early",
        _TIMERS,
        "        now_ms = self._clock.now_ms()\n        while heap",
        "        now_ms = self._clock.now_ms() + 5\n        while heap",
        "I6: timers never fire early",
        ("engine/test_holes_timers.py",),
    ),
    Mutant(
        "a timer fires although it was cancelled",
        _TIMERS,
        "            if row.id in self._cancelled:\n",
        "            if row.id in ():\n",
        "I6: a timer that was cancelled never fires",
        ("engine/test_holes_timers.py",),
    ),
    Mutant(
        "the twin of a timer that was cancelled fires in its place",
        _TIMERS,
        "self._heap = [each for each in self._heap if each[1:4] != row.id]",
        "self._heap = list(self._heap)",
        "I6: never early",
        ("engine/test_upkeep.py",),
    ),
    Mutant(
        "an earlier timer waits for a later one",
        _TIMERS,
        "if self._asked_ms is None or row.fire_ms < self._asked_ms:",
        "if self._asked_ms is None:",
        "I6: at its moment",
        ("engine/test_holes_timers.py",),
    ),
    Mutant(
        "the clock follows the wall clock wherever it jumps",
        _CLOCK,
        "return self._base_ms + int((time.monotonic() - self._started_s) * 1000)",
        "return time.time_ns() // 1_000_000",
        "§5: the engine's clock is monotonic",
        ("engine/test_holes_clock.py",),
    ),
    Mutant(
        "the clock starts behind the last durable time",
        _CLOCK,
        "max(time.time_ns() // 1_000_000, not_before_ms)",
        "time.time_ns() // 1_000_000",
        "§5: the clock is never behind the last durable time",
        ("engine/test_holes_clock.py",),
    ),
    Mutant(
        "an outdated retry timer takes the newer one with it",
        _UPKEEP,
        "        if inv is not None and _is_outdated(inv, timer):\n            return\n",
        "",
        "I6: timers are not lost",
        ("storage/test_doctor.py::test_an_attempt_that_was_put_off_anew_after_a_cancel_keeps_its_timer",),
    ),
    Mutant(
        "a timer that fired stays in the store",
        _UPKEEP,
        "        core.commits.batch.timers[timer.id] = None\n",
        "",
        "I12: disk returns to base; I6",
        ("engine/test_holes_what_is_kept.py::test_a_timer_that_fired_is_gone_from_the_store",),
    ),
]

_AFTER_A_CRASH = [
    Mutant(
        "a suspect is not counted before it runs",
        _TRIALS,
        "        commits.releases.counted.append(inv)\n        return False\n",
        "        commits.releases.counted.append(inv)\n        return True\n",
        "T1: a suspect runs only when a count of that is durable",
        ("engine/test_hostile_poison.py",),
    ),
    Mutant(
        "what runs at an unclean exit is no suspect",
        _UPKEEP,
        "        core.trials.suspect(row.id)\n",
        "",
        "T1, §2: poison that kills the process is paused",
        ("engine/test_hostile_poison.py",),
    ),
    Mutant(
        "records that are read again are no suspects",
        _INTAKE,
        "take(self._take_suspects(place, run) if self._core.trials.is_wary else run)",
        "take(run)",
        "T1, §2: poison that kills the process is paused",
        ("engine/test_hostile_poison.py",),
    ),
    Mutant(
        "what a timer has woken is no suspect",
        _UPKEEP,
        "            core.trials.suspect(timer.invocation, timer.fire_ms)\n",
        "            pass\n",
        "T1, §2: poison that kills the process is paused",
        ("engine/test_hostile_poison.py",),
    ),
    Mutant(
        "a suspect is never cleared",
        _TRIALS,
        "            self._clear(inv.id, None)\n",
        "            pass\n",
        "T3: a suspect is cleared when it has ended",
        ("engine/test_hostile_poison.py",),
    ),
    Mutant(
        "others run beside the one on trial",
        _TRIALS,
        "            self._parked.append(inv)\n            return False\n",
        "            return True\n",
        "T2: nothing else runs beside the one on trial",
        ("engine/test_hostile_poison.py::test_what_takes_the_process_down_is_paused_and_the_rest_goes_on",),
    ),
    Mutant(
        "those that waited for a trial are forgotten",
        _TRIALS,
        "            for inv in parked:\n                self._host.enqueue(inv)\n",
        "",
        "I9: every invocation ends",
        ("engine/test_hostile_poison.py",),
    ),
    Mutant(
        "every exit is taken for a clean one",
        _STORE,
        "was_clean=lock.previous.released or lock.previous.epoch == 0,",
        "was_clean=True,",
        "§2: poison that kills the process is paused",
        ("engine/test_hostile_poison.py",),
    ),
]

_LIMITS = [
    Mutant(
        "the watchdog says nothing",
        _WATCHDOG,
        "                self._tell(_culprit_of(frame))\n",
        "                pass\n",
        "§3: a handler that blocks is named, with its stack",
        ("engine/test_hostile_blocking.py::test_a_handler_that_blocks_is_named_with_its_line_and_what_to_do",),
    ),
    Mutant(
        "the watchdog blames the application",
        _WATCHDOG,
        "        if handler is not None and frames:\n",
        "        if handler is not None and not frames:\n",
        "§3: a handler that blocks is named, with its stack",
        ("engine/test_hostile_blocking.py::test_a_handler_that_blocks_is_named_with_its_line_and_what_to_do",),
    ),
    Mutant(
        "little room is not told to clients",
        _ENGINE,
        "        self._room.check()\n",
        "",
        "M1: while there is little room clients are refused by name",
        (
            "engine/test_low_space.py::test_m1_clients_are_refused_by_name_while_there_is_little_room_and_served_again_after",
        ),
    ),
    Mutant(
        "sources are read while there is little room",
        _ENGINE,
        "< RECORDS_AHEAD_MAX and not self._room.is_low",
        "< RECORDS_AHEAD_MAX",
        "M1: while there is little room sources are not read",
        ("engine/test_low_space.py::test_m1_sources_pause_before_the_volume_is_full_and_go_on_where_they_were",),
    ),
    Mutant(
        "it has room again with the next byte",
        _ROOM,
        "self._enough_bytes = free_bytes_min + free_bytes_min // 4",
        "self._enough_bytes = free_bytes_min",
        "M2: it ends only when there is clearly more room",
        ("engine/test_low_space.py::test_m2_it_ends_only_when_there_is_clearly_more_room",),
    ),
    Mutant(
        "a slow disk does not hold back a source",
        _ENGINE,
        "return ahead.get(name, 0) < limit and",
        "return",
        "I12: max_in_flight bounds what is not yet durable",
        ("engine/test_holes_what_is_kept.py::test_a_subscription_takes_no_more_than_it_may_have_in_flight",),
    ),
]

_STORING = [
    Mutant(
        "commits are not synced",
        _OPEN,
        '("synchronous", "FULL")',
        '("synchronous", "OFF")',
        "I1: acknowledged is durable",
        ("storage/test_sqlite_directory.py::test_s1_the_pragmas_that_make_commits_durable_are_set",),
    ),
    Mutant(
        "the name of a backup is not synced",
        "streamstate/storage/_backup.py",
        "        partial.rename(destination)\n        sync_directory(destination.parent)\n",
        "        partial.rename(destination)\n",
        "I1: a backup that was confirmed is there",
        ("storage/test_backup.py",),
    ),
    Mutant(
        "a full disk is taken for a commit",
        _STORE,
        "                cause = storage_error(error, self._path) if isinstance(error, apsw.Error) else error\n",
        "                if isinstance(error, apsw.FullError):\n"
        "                    return\n"
        "                cause = storage_error(error, self._path) if isinstance(error, apsw.Error) else error\n",
        "I1, §5: a failed commit stops the engine",
        ("storage/test_sqlite_directory.py::test_s1_a_full_disk_fails_the_commit_and_keeps_what_was_there",),
    ),
    Mutant(
        "a write that failed is tried once more",
        _STORE,
        "                cause = storage_error(error, self._path) if isinstance(error, apsw.Error) else error\n",
        "                self._roll_back(error)\n"
        "                if isinstance(error, apsw.Error):\n"
        "                    return self._write(batch)\n"
        "                cause = storage_error(error, self._path) if isinstance(error, apsw.Error) else error\n",
        "C3: a disk that has failed once is not believed again",
        ("storage/faults/test_failing_io.py",),
    ),
    Mutant(
        "a store takes commits after one that failed",
        _STORE,
        '                self._broken = f"an earlier one failed ({cause})"\n',
        "",
        "C3: a commit that fails is the last",
        ("storage/test_commit.py::test_s1_a_commit_that_fails_leaves_nothing_and_is_the_last",),
    ),
    Mutant(
        "the last value of a batch is left out",
        _WRITE,
        "    _put_state.run(cursor, put)\n",
        "    _put_state.run(cursor, put[: len(put) // 8 * 4 or 4])\n",
        "I7: a recovered store is a prefix of what was written",
        ("storage/test_commit.py::test_s1_a_batch_of_any_size_is_kept_and_deleted_whole",),
    ),
    Mutant(
        "the tail of a journal is left behind the new one",
        _WRITE,
        "    cursor.executemany(_cut_journal, [(invocation, first) for invocation, (first, _) in journal.items()])\n",
        "",
        "I7, I8: a journal is what was written last",
        ("storage/test_commit.py::test_s1_the_tail_of_a_journal_is_replaced_from_the_first_written_place_on",),
    ),
    Mutant(
        "a journal with a gap is replayed",
        "streamstate/storage/_sqlite_read.py",
        "if rows and rows[-1][0] != len(rows) - 1:",
        "if False:",
        "I11: corruption is refused by name",
        ("storage/test_readers.py::test_s2_a_journal_with_a_gap_is_named_as_corrupt",),
    ),
    Mutant(
        "another owner's epoch does not stop a commit",
        _STORE,
        "if not cursor.execute(_MARK, (*marks, number, self._checkpointed, epoch)).fetchall():",
        "if cursor.execute(_MARK, (*marks, number, self._checkpointed, epoch)).fetchall() is None:",
        "I11: one process owns a data directory",
        (
            "storage/test_sqlite_directory.py::test_s4_a_commit_under_another_owners_epoch_is_refused_and_leaves_nothing",
        ),
    ),
    Mutant(
        "the owner epoch stays as it was",
        _OPEN,
        "UPDATE meta SET epoch = epoch + 1,",
        "UPDATE meta SET epoch = epoch + 0,",
        "I11: one process owns a data directory",
        ("storage/test_commit.py::test_s4_the_identity_stays_and_the_epoch_grows_with_every_opening",),
    ),
    Mutant(
        "the lock of another process is taken over",
        _LOCK,
        "            return\n    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "            return\n",
        "I11: a second process is refused by name",
        ("storage/test_sqlite_directory.py::test_s4_a_second_opening_in_the_same_process_is_refused_by_name",),
    ),
    Mutant(
        "pages are read unverified",
        "streamstate/storage/_checksums.py",
        '    if int(connection.pragma("checksum_verification") or 0) != 1:\n',
        "    if False:\n",
        "I11: corruption is refused by name",
        (
            "storage/faults/test_guard.py",
            "storage/test_sqlite_directory.py",
            "storage/test_backup.py",
        ),
    ),
    Mutant(
        "pages have no checksums",
        "streamstate/storage/_checksums.py",
        "_RESERVED_BYTES = 8 ",
        "_RESERVED_BYTES = 0 ",
        "I11: corruption is refused by name",
        (
            "storage/faults/test_guard.py::test_a_page_that_was_damaged_is_named_when_it_is_read_though_the_start_did_not_look",
        ),
    ),
    Mutant(
        "an older copy of the database is taken for it",
        _GUARD,
        "    if guard is not None and guard.directory_id == now.directory_id and guard.commits > now.last:\n",
        "    if False:\n",
        "G3, I7: nothing acknowledged is lost in silence",
        ("storage/faults/test_guard.py::test_g3_an_older_copy_of_a_closed_database_is_refused",),
    ),
    Mutant(
        "commits behind a damaged place of the log are lost in silence",
        _GUARD,
        "    if lost > 1:\n",
        "    if lost > 1_000:\n",
        "G6, I7: nothing acknowledged is lost in silence",
        (
            "storage/faults/test_guard.py::test_g6_a_log_that_is_damaged_in_front_of_two_commits_is_refused_and_in_the_last_one_it_is_a_prefix",
        ),
    ),
    Mutant(
        "a log that is gone is not missed",
        _GUARD,
        "        if guard is not None and guard.is_open:\n",
        "        if False:\n",
        "G2, I7: nothing acknowledged is lost in silence",
        ("storage/faults/test_guard.py::test_g2_a_missing_log_is_refused",),
    ),
    Mutant(
        "a closed file that has changed is opened",
        _GUARD,
        "if path.stat().st_size and sum_of_file(path) not in (guard.file_sum, None):",
        "if False:",
        "G5, I11: corruption is refused by name",
        ("storage/faults/test_damage.py", "storage/test_upgrade.py"),
    ),
    Mutant(
        "a format to come is opened",
        _OPEN,
        "    if version != FORMAT_VERSION:\n",
        "    if version < FORMAT_VERSION:\n",
        "I11: an unknown format is refused by name",
        ("storage/test_sqlite_directory.py::test_i11_another_format_version_is_refused_and_left_alone",),
    ),
]

MUTANTS = [*_COMMIT, *_OUT, *_TIME, *_AFTER_A_CRASH, *_LIMITS, *_STORING]
