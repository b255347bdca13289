-- The rules of matching, one after the other; what needs two connections at once is in tests/hosted.
begin;
select * from no_plan();

-- Short names for what is asked again and again. A fresh call id each time, as the function sends it.
create function pg_temp.ask(device text, ticket text, pool text default 'public', role text default 'either',
    more jsonb default '{}') returns jsonb language sql as $$
    select voicemeet.match(jsonb_build_object('device', device, 'ticket', ticket, 'pool', pool, 'role', role,
        'call_id', md5(random()::text)) || more)
$$;
create function pg_temp.aged(device_of text, seconds int) returns void language sql as $$
    update voicemeet.tickets set seen = seen - make_interval(secs => seconds),
        since = since - make_interval(secs => seconds),
        kept_until = kept_until - make_interval(secs => seconds) where device = device_of
$$;
create function pg_temp.forget() returns void language sql as $$
    delete from voicemeet.tickets; delete from voicemeet.calls; delete from voicemeet.acquaintances;
    delete from voicemeet.buckets; delete from voicemeet.scores; delete from voicemeet.reports;
    delete from voicemeet.counted; delete from voicemeet.successors; delete from voicemeet.legs
$$;
select voicemeet.set_pool('desk', true), voicemeet.set_pool('closed');

-- A caller meets an answerer, `either` meets `either`, the caller offers.
select is(pg_temp.ask('d1', 't1', 'desk', 'answerer')->>'status', 'waiting', 'an answerer waits');
select is(pg_temp.ask('d1', 't1', 'desk', 'answerer')->>'poll_after_s', '60', 'and asks again after a minute');
select cmp_ok(30 * 86400 / (pg_temp.ask('d1', 't1', 'desk', 'answerer')->>'poll_after_s')::int, '<=', 45000,
    'so a month on duty is no more invocations than that');
select is(pg_temp.ask('d2', 't2', 'desk', 'either')->>'status', 'waiting', 'a stranger does not meet a desk');
select is(pg_temp.ask('d3', 't3', 'desk', 'answerer')->>'status', 'waiting', 'nor two desks each other');
create temp table m as select pg_temp.ask('d4', 't4', 'desk', 'caller') as a;
select is(a - 'call_id' - 'until', '{"status": "matched", "slot": "a", "peer_role": "answerer",
    "wake": ["t1", null]}', 'a caller meets the desk that waits longest, offers, and the desk is woken') from m;
select is(pg_temp.ask('d1', 't1', 'desk', 'answerer') - 'until',
    jsonb_build_object('status', 'matched', 'slot', 'b', 'peer_role', 'caller', 'grant', null,
        'call_id', a->>'call_id'), 'the desk is told the same call') from m;
select is(pg_temp.ask('d4', 't4', 'desk', 'caller')->>'call_id', a->>'call_id', 'asked again: the same') from m;
select is((select count(*) from voicemeet.calls where heard), 1::bigint, 'both have heard of it');
drop table m; select pg_temp.forget();

-- Tickets: one search a device, one device a ticket.
select pg_temp.ask('d1', 't1');
select is(pg_temp.ask('d2', 't1')->>'error', 'ticket_taken', 'a foreign ticket');
select is(pg_temp.ask('d1', 't1', 'desk')->>'error', 'ticket_taken', 'the same ticket for another pool');
select is(pg_temp.ask('d1', 't1', 'public', 'caller')->>'error', 'ticket_taken', 'and for another role');
select is(pg_temp.ask('d1', 't9')->>'status', 'waiting', 'a new ticket');
select is((select array_agg(ticket) from voicemeet.tickets), array['t9'], 'gives the earlier search up');
select is(pg_temp.ask('d1', 't9')->>'status', 'waiting', 'nobody meets itself');
select is(pg_temp.ask('d1', 'nowhere', 'nowhere')->>'error', 'unknown_pool', 'a pool that there is not');
select pg_temp.forget();

-- Who was not asked about is forgotten: three polls, at least 20 s.
select pg_temp.ask('d1', 't1'); select pg_temp.aged('d1', 46);
select is(pg_temp.ask('d2', 't2')->>'status', 'waiting', 'after three polls of 15 s a ticket is passed over');
select pg_temp.forget();
select pg_temp.ask('d1', 't1'); select pg_temp.aged('d1', 44);
select is(pg_temp.ask('d2', 't2')->>'status', 'matched', 'before that it is met');
select pg_temp.forget();
select pg_temp.ask('d1', 't1', 'desk', 'answerer'); select pg_temp.aged('d1', 170);
select is(pg_temp.ask('d2', 't2', 'desk', 'caller')->>'status', 'matched', 'a desk is remembered for three minutes');
select pg_temp.forget();
select pg_temp.ask('d1', 't1'); select pg_temp.ask('d2', 't2');
select pg_temp.aged('d1', 61);
select is(pg_temp.ask('d1', 't1')->>'status', 'waiting', 'a match is answered for a minute, then it is a new search');
select pg_temp.forget();

-- Giving up.
select pg_temp.ask('d1', 't1', 'desk', 'answerer');
select pg_temp.ask('d3', 't3', 'desk', 'answerer');
select pg_temp.ask('d2', 't2', 'desk', 'caller');
select is(voicemeet.leave('{"device": "d9", "ticket": "t2"}')->'wake', '[null]', 'a foreign ticket is ignored');
select is(voicemeet.leave('{"device": "d2", "ticket": "t2"}')->'wake', '["t1"]',
    'who leaves before the partner has heard gives him back');
select is((select array_agg(ticket order by since) from voicemeet.tickets where call_id is null),
    array['t1', 't3'], 'and he goes on waiting, first in line');
select is((select count(*) from voicemeet.calls), 0::bigint, 'and the call never was');
select is(voicemeet.leave('{"device": "d2", "ticket": "t2"}')->>'ok', 'true', 'leaving twice is fine');
select pg_temp.ask('d2', 't4', 'desk', 'caller'); select pg_temp.ask('d1', 't1', 'desk', 'answerer');
select is(voicemeet.leave('{"device": "d2", "ticket": "t4"}')->'wake', '[null]', 'after both have heard it stands');
select is((select count(*) from voicemeet.calls), 1::bigint, 'the call does');
select pg_temp.forget();

-- An answerer asks with a new ticket while a caller is only arriving: the call it has heard of stands.
select pg_temp.ask('d1', 't1', 'desk', 'caller');
select is(pg_temp.ask('d2', 't2', 'desk', 'answerer')->>'status', 'matched', 'a desk finds a caller');
select is(pg_temp.ask('d2', 't3', 'desk', 'answerer')->>'status', 'waiting', 'and goes on looking');
select is(pg_temp.ask('d1', 't1', 'desk', 'caller')->>'status', 'matched', 'without losing the first');
select pg_temp.forget();

-- A new ticket replaces a match that neither has heard of: the partner gets his place back.
select pg_temp.ask('d1', 't1', 'desk', 'answerer'); select pg_temp.ask('d2', 't2', 'desk', 'caller');
select is(pg_temp.ask('d1', 't3', 'desk', 'answerer')->>'status', 'waiting', 'a desk that lost the answer asks anew');
select is(pg_temp.ask('d2', 't2', 'desk', 'caller')->>'status', 'matched', 'the caller was told already: his call stands');
select pg_temp.forget();

-- Strangers are kept apart while somebody else is there, and for a while in any case.
select pg_temp.ask('d1', 't1'); select pg_temp.ask('d2', 't2'); select pg_temp.ask('d1', 't1');
select is(pg_temp.ask('d1', 't3')->>'status', 'waiting', 'one of two who met waits again');
select is(pg_temp.ask('d2', 't4')->>'status', 'waiting', 'and the other: not each other again at once');
select is(pg_temp.ask('d3', 't5')->>'status', 'matched', 'a third is met at once');
select is((select device_a = 'd1' or device_b = 'd1' from voicemeet.calls where 'd3' in (device_a, device_b)), true,
    'by who waits longest');
select pg_temp.ask('d1', 't3');
select pg_temp.forget();
select pg_temp.ask('d1', 't1'); select pg_temp.ask('d2', 't2'); select pg_temp.ask('d1', 't1');
select pg_temp.ask('d1', 't3'); select pg_temp.aged('d1', 7);
select is(pg_temp.ask('d2', 't4')->>'status', 'matched', 'after six seconds alone they may meet again');
select pg_temp.forget();
do $$ begin for i in 1..12 loop
    perform pg_temp.ask('p' || i, 'tp' || i); perform pg_temp.ask('d1', 'td' || i);
    delete from voicemeet.tickets;
end loop; end $$;
select is((select count(*) from voicemeet.acquaintances where device = 'd1'), 8::bigint, 'eight are remembered');
select pg_temp.forget();

-- Limits.
update voicemeet.settings set max_waiting = 2;
select pg_temp.ask('d1', 't1', 'desk', 'caller'); select pg_temp.ask('d2', 't2', 'desk', 'caller');
select is(pg_temp.ask('d3', 't3', 'desk', 'caller') - 'wake', '{"error": "pool_full", "retry_after_s": 10}', 'a full pool');
select is(pg_temp.ask('d1', 't1', 'desk', 'caller')->>'status', 'waiting', 'who waits in it goes on waiting');
update voicemeet.settings set max_waiting = 20000; select pg_temp.forget();
update voicemeet.settings set device_burst = 2, device_per_s = 0.001;
select pg_temp.ask('d1', 't1'); select pg_temp.ask('d1', 't1');
select is(pg_temp.ask('d1', 't1')->>'error', 'too_fast', 'a device that asks too often');
select cmp_ok((pg_temp.ask('d1', 't1')->>'retry_after_s')::real, '>', 900::real, 'is told how long to wait');
update voicemeet.settings set device_burst = 1000, device_per_s = 1000;
update voicemeet.settings set session_burst = 1;
select is(voicemeet.session('{"device": "s1", "address": "a"}')->>'ok', 'true', 'a session');
select is(voicemeet.session('{"device": "s2", "address": "a"}')->>'error', 'too_fast', 'a second of one address');
select is(voicemeet.session('{"device": "s3", "address": "b"}')->>'ok', 'true', 'another address');
update voicemeet.settings set session_burst = 60; select pg_temp.forget();

-- A bucket after the clock went back, or with less in it than was taken from it before: no more than one wait.
select voicemeet.too_fast('b', 1, 2, now()), voicemeet.too_fast('b', 1, 2, now());
select is(voicemeet.too_fast('b', 1, 2, now()), '{"error": "too_fast", "retry_after_s": 1.1}', 'an empty bucket');
select is(voicemeet.too_fast('b', 1, 2, now() - interval '1 hour'), null, 'an hour earlier');
select is(voicemeet.too_fast('b', 1, 2, now() - interval '1 hour')->>'retry_after_s', '1.1', 'has one and no more');
select is(voicemeet.too_fast('b', 1, 2, now() + interval '1 hour'), null, 'later it is full again,');
select is(voicemeet.too_fast('b', 1, 2, now() + interval '1 hour'), null, 'but not more than full');
select is(voicemeet.too_fast('b', 1, 2, now() + interval '1 hour')->>'retry_after_s', '1.1', 'and empty after that');

-- One address has so many searches at once in open pools, and others are not touched.
update voicemeet.settings set address_searches = 2;
select pg_temp.ask('d1', 't1', 'desk', 'caller', '{"address": "x"}'), pg_temp.ask('d2', 't2', 'desk', 'caller', '{"address": "x"}');
select is(pg_temp.ask('d3', 't3', 'desk', 'caller', '{"address": "x"}') - 'wake',
    '{"error": "too_many_calls", "retry_after_s": 10}', 'a third search of one address');
select is(pg_temp.ask('d1', 't1', 'desk', 'caller', '{"address": "x"}')->>'status', 'waiting', 'those that wait go on');
select is(pg_temp.ask('d1', 't4', 'desk', 'caller', '{"address": "x"}')->>'status', 'waiting', 'also with a new ticket');
select is(pg_temp.ask('d3', 't3', 'desk', 'caller', '{"address": "y"}')->>'status', 'waiting', 'another address');
update voicemeet.settings set address_searches = 16; select pg_temp.forget();

-- Admission.
create temp table pass as select voicemeet.make_pass('closed', 'answerer', 'lobby') as shown;
select matches(shown, '^([0-9A-HJKMNP-TV-Z]{5}-){5}[0-9A-HJKMNP-TV-Z]$', 'a pass as people read it') from pass;
create temp table hashed as select encode(sha256(convert_to(E'voicemeet-edge v1 pass\n'
    || lower(replace(shown, '-', '')), 'UTF8')), 'hex') as full_hash from pass;
select is((select hash from voicemeet.passes), full_hash, 'only its hash is kept') from hashed;
select is(pg_temp.ask('d1', 't1', 'closed', 'answerer')->>'error', 'pass_needed', 'without a pass');
select is(pg_temp.ask('d1', 't1', 'closed', 'answerer', '{"pass": "0123456789abcdef"}')->>'error', 'pass_refused', 'an unknown one');
select is(pg_temp.ask('d1', 't1', 'closed', 'caller', jsonb_build_object('pass', left(full_hash, 16)))->>'error',
    'pass_refused', 'one for another role') from hashed;
select is(pg_temp.ask('d1', 't1', 'closed', 'answerer', jsonb_build_object('pass', left(full_hash, 16)))->>'status',
    'waiting', 'the right one') from hashed;
select is(voicemeet.session(jsonb_build_object('device', 's9', 'pass', full_hash))->>'ok', 'true', 'it enrols') from hashed;
select is(voicemeet.session(jsonb_build_object('device', 's9', 'pass', repeat('0', 64)))->>'error', 'pass_refused',
    'an unknown one does not');
select is(voicemeet.set_admission_keys('closed', array['AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8']),
    '1 admission keys set', 'an admission key: the bytes 0 to 31');
select is(pg_temp.ask('d1', 't1', 'closed', 'answerer', jsonb_build_object('pass', left(full_hash, 16)))->>'error',
    'proof_needed', 'then a proof is needed') from hashed;
select is(pg_temp.ask('d1', 't1', 'closed', 'answerer', jsonb_build_object('pass', left(full_hash, 16),
    'proven', 'anything', 'proof', repeat('00', 32)))->>'error', 'proof_refused', 'a wrong one is none') from hashed;
-- The value is Python's: hmac.digest(bytes(range(32)), b"anything", "sha256").hex()
select is(pg_temp.ask('d1', 't1', 'closed', 'answerer', jsonb_build_object('pass', left(full_hash, 16),
    'proven', 'anything', 'proof', '98d906b86dc1972efb415f127add7d0c3622b8bd059b0e04d59a3fdb31cc2966'))->>'status', 'waiting', 'the right one is') from hashed;
select is(voicemeet.set_admission_keys('closed', array['short']),
    'nothing changed: an admission key has 43 characters of base64url', 'a key that is none');
select is(voicemeet.revoke_pass('lobby'), 1::bigint, 'a pass is taken back');
select is(pg_temp.ask('d1', 't1', 'closed', 'answerer', jsonb_build_object('pass', left(full_hash, 16)))->>'error',
    'pass_refused', 'and opens nothing any more') from hashed;
select is(voicemeet.session(jsonb_build_object('device', 's9', 'pass', full_hash))->>'error', 'pass_refused',
    'nor enrols anybody') from hashed;
select pg_temp.forget();

-- Reports.
create function pg_temp.met(a text, b text) returns text language plpgsql as $$
declare answer jsonb;
begin
    delete from voicemeet.tickets; delete from voicemeet.acquaintances; delete from voicemeet.buckets;
    perform pg_temp.ask(a, 't-' || a || b); answer := pg_temp.ask(b, 't-' || b || a);
    perform pg_temp.ask(a, 't-' || a || b);
    update voicemeet.calls set matched_at = matched_at - interval '10 s', device_a = a, device_b = b
        where call_id = answer->>'call_id';
    return answer->>'call_id';
end $$;
create function pg_temp.report(id text, receipt text, address text default null) returns jsonb language sql as $$
    select voicemeet.report(jsonb_build_object('call_id', id, 'slot', 'a', 'reason', 'abuse', 'receipt', receipt,
        'address', address))
$$;
create function pg_temp.value(device_of text) returns numeric language sql as $$
    select round(voicemeet.score(device_of, clock_timestamp(), 259200)::numeric, 2)
$$;
create temp table c as select pg_temp.met('good', 'bad') as id;
select is(pg_temp.report(id, 'R1')->>'receipt', 'R1', 'a report has a receipt') from c;
select is(pg_temp.report(id, 'R1')->>'receipt', 'R1', 'the same again the same') from c;
select is(pg_temp.value('bad'), 1.00, 'and counts once');
select is((select count(*) from voicemeet.reports), 1::bigint, 'and is kept once');
select pg_temp.report(pg_temp.met('good', 'bad'), 'R2');
select is(pg_temp.value('bad'), 1.00, 'the same pair counts once a day');
create temp table two as select pg_temp.met('good2', 'bad') as one, pg_temp.met('good3', 'bad') as other;
select pg_temp.report(one, 'R3', 'here'), pg_temp.report(other, 'R4', 'here') from two;
select is(pg_temp.value('bad'), 2.00, 'and the same address');
select is((select count(*) from voicemeet.reports), 4::bigint, 'all of them are kept for the operator');
select is(pg_temp.ask('bad', 'tb')->>'separated', 'true', 'who was reported twice is separated, and told');
select is(pg_temp.ask('good', 'tg')->>'status', 'waiting', 'and does not meet others');
update voicemeet.scores set value = 5 where device = 'bad';
select is(pg_temp.ask('bad', 'tb')->>'error', 'refused_risk', 'more, and it is refused');
select is_empty($$select from voicemeet.tickets where device = 'bad'$$, 'and its ticket is forgotten');
select is(pg_temp.ask('bad', 'td', 'desk', 'answerer')->>'separated', 'false', 'a desk is not cut off by a score');
create temp table lobby as select voicemeet.make_pass('closed2', 'answerer') as shown
    where voicemeet.set_pool('closed2') is not null;
select is(pg_temp.ask('bad', 'tz', 'closed2', 'answerer', jsonb_build_object('pass', (select left(hash, 16)
    from voicemeet.passes where pool = 'closed2')))->>'status', 'waiting', 'but never cut off from a closed pool');
select is(voicemeet.session('{"device": "bad2", "old": "bad"}')->>'ok', 'true', 'a new token');
select is(pg_temp.value('bad2'), 5.00, 'inherits the score');
update voicemeet.scores set at = at - interval '3 days' where device = 'bad';
select is(pg_temp.value('bad'), 2.50, 'a score halves in three days');
-- Too young, or not heard by both, or not strangers: kept, without weight.
update voicemeet.calls set heard = false where call_id = (select id from c);
delete from voicemeet.counted; delete from voicemeet.scores;
select pg_temp.report(id, 'R9') from c;
select is(pg_temp.value('bad'), 0.00, 'a call that only one knew of gives no weight');
update voicemeet.calls set heard = true, matched_at = clock_timestamp() where call_id = (select id from c);
select pg_temp.report(id, 'R10') from c;
select is(pg_temp.value('bad'), 0.00, 'nor one of a second');
update voicemeet.calls set strangers = false, matched_at = matched_at - interval '1 min' where call_id = (select id from c);
select pg_temp.report(id, 'R11') from c;
select is(pg_temp.value('bad'), 0.00, 'nor one with a desk');
select is(pg_temp.report('unknown-call-id-0123456789', 'R12')->>'receipt', 'R12', 'a call nobody remembers: kept');
select is((select reported from voicemeet.reports where receipt = 'R12'), null, 'about nobody');

-- The end of a call.
select pg_temp.forget(); drop table c;
delete from voicemeet.call_hours;
create temp table c as select pg_temp.met('x', 'y') as id;
select is(voicemeet.keep_grant(jsonb_build_object('call_id', id, 'slot', 'b', 'grant',
    '{"expires_at": 5000, "ice_servers": []}'::jsonb))->'grant'->>'expires_at', '5000', 'credentials are kept') from c;
select is(voicemeet.keep_grant(jsonb_build_object('call_id', id, 'slot', 'b', 'grant',
    '{"expires_at": 4000, "ice_servers": []}'::jsonb))->'grant'->>'expires_at', '5000', 'the longer ones win') from c;
select is(voicemeet.ended(jsonb_build_object('call_id', id, 'slot', 'b', 'seconds', 5000))->'revoke'->>'expires_at',
    '5000', 'and are given back at the end') from c;
select is(voicemeet.ended(jsonb_build_object('call_id', id, 'slot', 'a', 'seconds', 7))->>'revoke', null, 'each slot its own') from c;
select is((select (calls, seconds between 10 and 12) from voicemeet.call_hours), (1::bigint, true),
    'an end counts once, and no more seconds than there were');
select is(voicemeet.renew(jsonb_build_object('call_id', id, 'slot', 'b'))->>'error', 'call_over', 'no renewal after it') from c;
select is(pg_temp.ask('x', 't-xy')->>'error', 'call_over', 'nor an answer to a match') from c;
select is(voicemeet.ended('{"call_id": "unknown-call-id-0123456789", "slot": "a", "seconds": 5}')->>'ok', 'true', 'an unknown call');

-- The desks that a caller rings are forgotten with its ticket, whichever way that goes.
create function pg_temp.rings() returns setof bigint language plpgsql as $$
begin
    perform pg_temp.forget();
    perform pg_temp.ask('d1', 't1', 'desk', 'answerer');
    perform pg_temp.ask('d2', 't2', 'desk', 'caller', '{"ring": true}');
    return query select count(*) from voicemeet.legs where ticket = 't2';
end $$;
select is(pg_temp.rings(), 1::bigint, 'a desk is rung');
select voicemeet.leave('{"device": "d2", "ticket": "t2"}');
select is_empty('select from voicemeet.legs', 'and not by one who left');
select pg_temp.rings(), pg_temp.ask('d2', 't3', 'desk', 'caller');
select is_empty('select from voicemeet.legs', 'nor by an earlier ticket');
select pg_temp.rings(), pg_temp.aged('d2', 50);
select is(pg_temp.ask('d2', 't2', 'desk', 'caller', '{"ring": true}')->>'calls', '[]', 'a forgotten one begins anew');
select is_empty('select from voicemeet.legs', 'without what it rang');
select pg_temp.rings(), pg_temp.aged('d2', 50), pg_temp.ask('d2', 't2', 'desk', 'caller');
select is_empty('select from voicemeet.legs', 'also when it rings no more');
select pg_temp.rings(), pg_temp.aged('d2', 50), voicemeet.purge();
select is_empty('select from voicemeet.legs', 'nor after a purge');
select pg_temp.rings(), voicemeet.purge();
select is((select count(*) from voicemeet.legs), 1::bigint, 'which leaves those that ring');
select voicemeet.leave('{"device": "d1", "ticket": "t1"}');
select is((select count(*) from voicemeet.legs), 1::bigint, 'a desk that leaves is not rung again by itself');

-- Retention.
select pg_temp.forget();
insert into voicemeet.reports values ('old', null, 'abuse', now() - interval '31 days', false),
    ('held', null, 'abuse', now() - interval '31 days', true), ('young', null, 'abuse', now() - interval '29 days', false);
insert into voicemeet.scores values ('old', 1, now() - interval '60 days'), ('new', 1, now());
select pg_temp.ask('d1', 't1'); select pg_temp.ask('d2', 't2', 'desk', 'answerer'); select pg_temp.aged('d1', 50);
select is(voicemeet.purge(), '{"tickets": 1, "reports": 1}', 'a purge');
select results_eq('select receipt from voicemeet.reports order by 1', array['held', 'young'], 'keeps what is held or young');
select is(voicemeet.hold('held', false), true, 'released');
select is(voicemeet.purge()->>'reports', '1', 'it goes');
select results_eq('select device from voicemeet.scores', array['new'], 'and scores that mean nothing any more');
select results_eq('select ticket from voicemeet.tickets', array['t2'], 'and tickets nobody asks about');

-- Two versions of the function at once: unknown keys are ignored, new ones have defaults.
select is(pg_temp.ask('d1', 't1', 'desk', 'caller', '{"from_the_future": [1, {}]}')->>'status', 'matched', 'a newer function');
select is(voicemeet.session('{"device": "z"}')->>'ok', 'true', 'an older one');

select * from finish();
rollback;
