PRAGMA application_id = 1937011572;
PRAGMA user_version = 2;
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    directory_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    clock_ms INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    outbox_position INTEGER NOT NULL,
    commits INTEGER NOT NULL,
    checkpointed INTEGER NOT NULL
) STRICT;
CREATE TABLE object_state (
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (service, key, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE positions (
    subscription TEXT NOT NULL,
    topic TEXT NOT NULL,
    topic_id TEXT NOT NULL,
    partition INTEGER NOT NULL,
    next_offset INTEGER NOT NULL,
    PRIMARY KEY (subscription, topic, topic_id, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE invocations (
    id TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    service TEXT NOT NULL,
    handler TEXT NOT NULL,
    key TEXT NOT NULL,
    lane INTEGER NOT NULL,
    status TEXT NOT NULL,
    input BLOB NOT NULL,
    origin TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    started_ms INTEGER,
    attempt INTEGER NOT NULL,
    first_failed_ms INTEGER,
    due_ms INTEGER,
    failure TEXT,
    result BLOB,
    completed_ms INTEGER,
    expires_ms INTEGER,
    idempotency_key TEXT,
    undelivered INTEGER NOT NULL
) STRICT;
CREATE TABLE journal (
    invocation TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (invocation, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE timers (
    invocation TEXT NOT NULL,
    kind TEXT NOT NULL,
    idx INTEGER NOT NULL,
    fire_ms INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (invocation, kind, idx)
) STRICT, WITHOUT ROWID;
CREATE TABLE trials (
    invocation TEXT PRIMARY KEY,
    deaths INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE waiters (
    ordinal INTEGER PRIMARY KEY,
    awaited TEXT NOT NULL,
    invocation TEXT NOT NULL,
    idx INTEGER NOT NULL,
    UNIQUE (awaited, invocation, idx)
) STRICT;
CREATE TABLE promises (
    service TEXT NOT NULL,
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB,
    failure TEXT,
    PRIMARY KEY (service, key, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox (
    cluster TEXT NOT NULL,
    position INTEGER NOT NULL,
    topic TEXT NOT NULL,
    key BLOB,
    value BLOB,
    headers BLOB NOT NULL,
    message_id TEXT NOT NULL,
    PRIMARY KEY (cluster, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE application (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    name TEXT NOT NULL
) STRICT;
CREATE TABLE history (
    ordinal INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
    event TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX invocations_lane ON invocations (service, key, seq) WHERE lane = 1 AND status NOT IN ('completed', 'scheduled');
CREATE INDEX invocations_runnable ON invocations (seq) WHERE status IN ('pending', 'ready', 'running');
CREATE INDEX invocations_live ON invocations (seq) WHERE status <> 'completed';
CREATE INDEX invocations_expiring ON invocations (expires_ms, id) WHERE status = 'completed' AND expires_ms IS NOT NULL;
CREATE INDEX timers_due ON timers (fire_ms, invocation, kind, idx);
CREATE INDEX waiters_invocation ON waiters (invocation);
CREATE VIEW sys_invocation AS SELECT
    id,
    CASE key WHEN '' THEN service || '/' || handler ELSE service || '/' || key || '/' || handler END AS target,
    service AS target_service_name,
    key AS target_service_key,
    handler AS target_handler_name,
    idempotency_key,
    CASE
        WHEN origin ->> 'subscription' <> '' THEN 'subscription'
        WHEN origin ->> 'caller' <> '' THEN 'service'
        ELSE 'ingress'
    END AS invoked_by,
    nullif(origin ->> 'caller', '') AS invoked_by_id,
    nullif(origin ->> 'subscription', '') AS invoked_by_subscription_id,
    (SELECT count(*) FROM journal WHERE journal.invocation = invocations.id) AS journal_size,
    seq AS sequence_number,
    strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch') AS created_at,
    CASE status WHEN 'scheduled' THEN strftime('%Y-%m-%dT%H:%M:%fZ', due_ms / 1000.0, 'unixepoch') END AS scheduled_start_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_ms / 1000.0, 'unixepoch') AS running_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', completed_ms / 1000.0, 'unixepoch') AS completed_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', expires_ms / 1000.0, 'unixepoch') AS expires_at,
    attempt AS retry_count,
    CASE status WHEN 'backing-off' THEN strftime('%Y-%m-%dT%H:%M:%fZ', due_ms / 1000.0, 'unixepoch') END AS next_retry_at,
    failure ->> 2 AS last_failure,
    failure ->> 1 AS last_failure_error_code,
    status,
    CASE WHEN status <> 'completed' THEN NULL WHEN failure IS NULL THEN 'success' ELSE 'failure' END
        AS completion_result,
    CASE status WHEN 'completed' THEN failure ->> 2 END AS completion_failure
FROM invocations;
CREATE VIEW sys_journal AS SELECT
    invocation AS id,
    position AS "index",
    kind AS entry_type,
    name,
    entry AS raw,
    length(entry) AS raw_length
FROM journal;
CREATE VIEW sys_inbox AS SELECT
    service AS service_name,
    key AS service_key,
    id,
    seq AS sequence_number,
    strftime('%Y-%m-%dT%H:%M:%fZ', created_ms / 1000.0, 'unixepoch') AS created_at
FROM invocations WHERE lane = 1 AND status NOT IN ('completed', 'scheduled') AND status = 'pending';
CREATE VIEW sys_keyed_service_status AS SELECT
    service AS service_name,
    key AS service_key,
    id AS invocation_id
FROM invocations WHERE lane = 1 AND status NOT IN ('completed', 'scheduled') AND status <> 'pending';
CREATE VIEW sys_promise AS SELECT
    service AS service_name,
    key AS service_key,
    name AS key,
    1 AS completed,
    value AS completion_success_value,
    failure ->> 2 AS completion_failure
FROM promises;
CREATE VIEW state AS SELECT
    service AS service_name,
    key AS service_key,
    name AS key,
    CASE WHEN json_valid(CAST(value AS TEXT)) OR CAST(value AS TEXT) NOT GLOB '*[^ -~]*' THEN CAST(value AS TEXT) END
        AS value_utf8,
    value,
    length(value) AS value_length
FROM object_state;
INSERT INTO meta VALUES (1, '76a66efb68764c95236f962efcc2bf1d', 2, 1767225631000, 19, 3, 20, 17);
INSERT INTO object_state VALUES ('Contract', 'open', 'seen', X'74727565');
INSERT INTO object_state VALUES ('Contract', 'signed', 'seen', X'74727565');
INSERT INTO object_state VALUES ('Order', 'a', 'count', X'31');
INSERT INTO object_state VALUES ('Order', 'a', 'odd '||X'00'||' name', X'22E2988322');
INSERT INTO object_state VALUES ('Order', 'b', 'count', X'31');
INSERT INTO object_state VALUES ('Order', 'c', 'count', X'31');
INSERT INTO positions VALUES ('golden.Order.place', 'orders', '', 0, 0);
INSERT INTO positions VALUES ('golden.Order.place', 'orders', '', 1, 3);
INSERT INTO positions VALUES ('golden.Order.place', 'orders', '', 2, 0);
INSERT INTO positions VALUES ('golden.Order.place', 'orders', '', 3, 2);
INSERT INTO invocations VALUES ('inv_2uf6thbtz6ss2i2kvsm5ejkt74', 13, 'Contract', 'conclude', 'open', 1, 'suspended', X'', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_3g7kgsydn4bynvqkbhusoojja4', 7, 'Order', 'remind', 'relayed', 1, 'scheduled', X'', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, NULL, 0, NULL, 1767312000000, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_aoxxhx3tjc46l32nqnlms5syaa', 10, 'Order', 'flaky', 'failing', 1, 'backing-off', X'', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 1, 1767225600000, 1767225660000, '["failed",500,"ValueError: not yet",{},"Traceback (most recent call last):\n  File \"streamstate/context/_tasks.py\", line 187, in _drive\n    result = yield from self._handler\n             ^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"golden_app.py\", line 65, in flaky\nValueError: not yet\n"]', NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_aukhgptq2d3bl7x3lozd3swuhi', 17, 'Shop', 'tell', '', 0, 'completed', X'30', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, NULL, X'30', 1767225600000, 1767312000000, 'told', 0);
INSERT INTO invocations VALUES ('inv_bum2o66dknkyke4hve4q7lo4xu', 14, 'Contract', 'conclude', 'signed', 1, 'completed', X'', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, NULL, X'2241646122', 1767225600000, 1767312000000, NULL, 0);
INSERT INTO invocations VALUES ('inv_cluj5isgvo2wdeqpsuo66mgxtu', 6, 'Shop', 'relay', '', 0, 'suspended', X'2272656C6179656422', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_cophmfsolxorwi2fkc7a3ll6da', 19, 'Shop', 'work', '', 0, 'running', X'', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225631000, 1767225631000, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_f4rwyaurkf4d6p57kbdukzs5me', 2, 'Order', 'place', 'b', 1, 'suspended', X'32', '{"headers":{},"caller":"","caller_index":-1,"subscription":"golden.Order.place","topic":"orders","partition":1,"offset":0,"timestamp_ms":1767225600000,"record_key":"Yg==","record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_ipxv44ca6rjjs3ai5hyh6j5mfq', 8, 'Order', 'ask', 'relayed', 1, 'suspended', X'', '{"headers":{},"caller":"inv_cluj5isgvo2wdeqpsuo66mgxtu","caller_index":1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_kcenygnpyvbrxsvjjzuxuxtfem', 1, 'Order', 'ask', 'asked', 1, 'suspended', X'', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, NULL, NULL, NULL, NULL, 'once', 0);
INSERT INTO invocations VALUES ('inv_l3ryudysvq74nghnw56bquzc4u', 5, 'Shop', 'attach', '', 0, 'suspended', X'22696E765F6B63656E79676E70797662727873766A6A7A757875787466656D22', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_mrq2zmp4bzuimch2c2d7hvg5ge', 4, 'Order', 'place', 'b', 1, 'pending', X'30', '{"headers":{},"caller":"","caller_index":-1,"subscription":"golden.Order.place","topic":"orders","partition":1,"offset":2,"timestamp_ms":1767225600000,"record_key":"Yg==","record_headers":[],"is_tombstone":false}', 1767225600000, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_r3egkiuj5yraqcqu6wioasdfay', 11, 'Order', 'stuck', 'stuck', 1, 'paused', X'', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 1, NULL, NULL, '["failed",500,"step ''charge'' failed: ValueError: the card reader is broken",{},"Traceback (most recent call last):\n  File \"streamstate/engine/_steps.py\", line 57, in _perform\n    result = Success(action.encode(await self._call(action)))\n                                   ^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"streamstate/engine/_steps.py\", line 76, in _call\n    result = await asyncio.get_running_loop().run_in_executor(self._threads, call)\n             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"lib/python3.11/concurrent/futures/thread.py\", line 58, in run\n    result = self.fn(*self.args, **self.kwargs)\n             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"golden_app.py\", line 123, in _charge\nValueError: the card reader is broken\n"]', NULL, NULL, NULL, NULL, 1);
INSERT INTO invocations VALUES ('inv_rl2s4pgqkpk4dewfrr3apmx37y', 3, 'Order', 'place', 'b', 1, 'pending', X'30', '{"headers":{},"caller":"","caller_index":-1,"subscription":"golden.Order.place","topic":"orders","partition":1,"offset":1,"timestamp_ms":1767225600000,"record_key":"Yg==","record_headers":[],"is_tombstone":false}', 1767225600000, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_tu3qw476c5g6xq5owjqevxuyoq', 9, 'Order', 'ask', 'relayed-2', 1, 'suspended', X'', '{"headers":{},"caller":"inv_cluj5isgvo2wdeqpsuo66mgxtu","caller_index":2,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO invocations VALUES ('inv_u57gfgmnwfxep6wwy45aevcmam', 16, 'Order', 'refuse', 'refused', 1, 'completed', X'', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, NULL, NULL, '["failed",409,"sold out",{},"Traceback (most recent call last):\n  File \"streamstate/context/_tasks.py\", line 187, in _drive\n    result = yield from self._handler\n             ^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"golden_app.py\", line 59, in refuse\nstreamstate.errors.TerminalError: sold out\n"]', NULL, 1767225600000, 1767312000000, NULL, 0);
INSERT INTO invocations VALUES ('inv_zbvakfpl3i7fkocxe2mi3k5zwu', 12, 'Shop', 'pay', '', 0, 'backing-off', X'', '{"headers":{},"caller":"","caller_index":-1,"subscription":"","topic":"","partition":-1,"offset":-1,"timestamp_ms":-1,"record_key":null,"record_headers":[],"is_tombstone":false}', 1767225600000, 1767225600000, 0, 1767225600000, NULL, '["failed",500,"step ''pay'' failed: ValueError: no money yet",{},"Traceback (most recent call last):\n  File \"streamstate/engine/_steps.py\", line 57, in _perform\n    result = Success(action.encode(await self._call(action)))\n                                   ^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"streamstate/engine/_steps.py\", line 76, in _call\n    result = await asyncio.get_running_loop().run_in_executor(self._threads, call)\n             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"lib/python3.11/concurrent/futures/thread.py\", line 58, in run\n    result = self.fn(*self.args, **self.kwargs)\n             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n  File \"golden_app.py\", line 129, in _pay\nValueError: no money yet\n"]', NULL, NULL, NULL, NULL, 0);
INSERT INTO journal VALUES ('inv_2uf6thbtz6ss2i2kvsm5ejkt74', 0, 'set', 'seen', X'98A7636F6D6D616E64A3736574A47365656EC0C40474727565C0C0B1676F6C64656E5F6170702E70793A313039');
INSERT INTO journal VALUES ('inv_2uf6thbtz6ss2i2kvsm5ejkt74', 1, 'promise', 'signed', X'98A7636F6D6D616E64A770726F6D697365A67369676E6564C0C0C0C0B1676F6C64656E5F6170702E70793A313130');
INSERT INTO journal VALUES ('inv_bum2o66dknkyke4hve4q7lo4xu', 0, 'set', 'seen', X'98A7636F6D6D616E64A3736574A47365656EC0C40474727565C0C0B1676F6C64656E5F6170702E70793A313039');
INSERT INTO journal VALUES ('inv_bum2o66dknkyke4hve4q7lo4xu', 1, 'promise', 'signed', X'98A7636F6D6D616E64A770726F6D697365A67369676E6564C0C0C0C0B1676F6C64656E5F6170702E70793A313130');
INSERT INTO journal VALUES ('inv_bum2o66dknkyke4hve4q7lo4xu', 2, 'completion', '1', X'94AA636F6D706C6574696F6E0192A26F6BC4052241646122CF0000019B76DAA800');
INSERT INTO journal VALUES ('inv_cluj5isgvo2wdeqpsuo66mgxtu', 0, 'send', 'Order/remind', X'98A7636F6D6D616E64A473656E64AC4F726465722F72656D696E64A772656C61796564C40081A864656C61795F6D73CE05265C00C0B0676F6C64656E5F6170702E70793A3739');
INSERT INTO journal VALUES ('inv_cluj5isgvo2wdeqpsuo66mgxtu', 1, 'call', 'Order/ask', X'98A7636F6D6D616E64A463616C6CA94F726465722F61736BA772656C61796564C400C0C0B0676F6C64656E5F6170702E70793A3830');
INSERT INTO journal VALUES ('inv_cluj5isgvo2wdeqpsuo66mgxtu', 2, 'call', 'Order/ask', X'98A7636F6D6D616E64A463616C6CA94F726465722F61736BA972656C617965642D32C400C0C0B0676F6C64656E5F6170702E70793A3830');
INSERT INTO journal VALUES ('inv_cophmfsolxorwi2fkc7a3ll6da', 0, 'run', 'work', X'98A7636F6D6D616E64A372756EA4776F726BC0C0C0C0B1676F6C64656E5F6170702E70793A313034');
INSERT INTO journal VALUES ('inv_f4rwyaurkf4d6p57kbdukzs5me', 0, 'get', 'count', X'98A7636F6D6D616E64A3676574A5636F756E74C0C0C092A26F6BC0B0676F6C64656E5F6170702E70793A3431');
INSERT INTO journal VALUES ('inv_f4rwyaurkf4d6p57kbdukzs5me', 1, 'set', 'count', X'98A7636F6D6D616E64A3736574A5636F756E74C0C40131C0C0B0676F6C64656E5F6170702E70793A3431');
INSERT INTO journal VALUES ('inv_f4rwyaurkf4d6p57kbdukzs5me', 2, 'sleep', '', X'98A7636F6D6D616E64A5736C656570A0C0C081A777616B655F6D73CF0000019B77488500C0B0676F6C64656E5F6170702E70793A3433');
INSERT INTO journal VALUES ('inv_ipxv44ca6rjjs3ai5hyh6j5mfq', 0, 'awakeable', '', X'98A7636F6D6D616E64A96177616B6561626C65A0C0C0C0C0B0676F6C64656E5F6170702E70793A3439');
INSERT INTO journal VALUES ('inv_kcenygnpyvbrxsvjjzuxuxtfem', 0, 'awakeable', '', X'98A7636F6D6D616E64A96177616B6561626C65A0C0C0C0C0B0676F6C64656E5F6170702E70793A3439');
INSERT INTO journal VALUES ('inv_l3ryudysvq74nghnw56bquzc4u', 0, 'attach', 'inv_kcenygnpyvbrxsvjjzuxuxtfem', X'98A7636F6D6D616E64A6617474616368BE696E765F6B63656E79676E70797662727873766A6A7A757875787466656DC0C0C0C0B0676F6C64656E5F6170702E70793A3931');
INSERT INTO journal VALUES ('inv_r3egkiuj5yraqcqu6wioasdfay', 0, 'sleep', '', X'98A7636F6D6D616E64A5736C656570A0C0C081A777616B655F6D73CF0000019B76DB1D30C0B0676F6C64656E5F6170702E70793A3731');
INSERT INTO journal VALUES ('inv_r3egkiuj5yraqcqu6wioasdfay', 1, 'run', 'charge', X'98A7636F6D6D616E64A372756EA6636861726765C0C0C0C0B0676F6C64656E5F6170702E70793A3732');
INSERT INTO journal VALUES ('inv_r3egkiuj5yraqcqu6wioasdfay', 2, 'completion', '0', X'94AA636F6D706C6574696F6E0092A26F6BC0CF0000019B76DB1D30');
INSERT INTO journal VALUES ('inv_tu3qw476c5g6xq5owjqevxuyoq', 0, 'awakeable', '', X'98A7636F6D6D616E64A96177616B6561626C65A0C0C0C0C0B0676F6C64656E5F6170702E70793A3439');
INSERT INTO journal VALUES ('inv_zbvakfpl3i7fkocxe2mi3k5zwu', 0, 'run', 'pay', X'98A7636F6D6D616E64A372756EA3706179C0C0C0C0B0676F6C64656E5F6170702E70793A3836');
INSERT INTO timers VALUES ('inv_3g7kgsydn4bynvqkbhusoojja4', 'start', 0, 1767312000000, 0);
INSERT INTO timers VALUES ('inv_aoxxhx3tjc46l32nqnlms5syaa', 'retry', 0, 1767225660000, 1);
INSERT INTO timers VALUES ('inv_f4rwyaurkf4d6p57kbdukzs5me', 'sleep', 2, 1767232800000, 0);
INSERT INTO timers VALUES ('inv_zbvakfpl3i7fkocxe2mi3k5zwu', 'step', 0, 1767225660000, 1);
INSERT INTO waiters VALUES (1, 'inv_kcenygnpyvbrxsvjjzuxuxtfem', 'inv_l3ryudysvq74nghnw56bquzc4u', 0);
INSERT INTO waiters VALUES (2, 'promise:Contract/4:open/signed', 'inv_2uf6thbtz6ss2i2kvsm5ejkt74', 1);
INSERT INTO promises VALUES ('Contract', 'signed', 'signed', X'2241646122', NULL);
INSERT INTO outbox VALUES ('memory', 1, 'told', X'6B', X'30', X'9192A66E756D626572C40130', 'inv_kestns3wojlagqaibyk4zn2pey/0');
INSERT INTO outbox VALUES ('memory', 2, 'told', X'6B', X'31', X'9192A66E756D626572C40131', 'inv_kestns3wojlagqaibyk4zn2pey/1');
INSERT INTO outbox VALUES ('memory', 3, 'told', X'6B', X'32', X'9192A66E756D626572C40132', 'inv_kestns3wojlagqaibyk4zn2pey/2');
INSERT INTO application VALUES (1, 'golden');
