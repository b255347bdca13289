-- Nobody but the function may do anything, and the function only the verbs.
begin;
select * from no_plan();

select schema_privs_are('voicemeet', who, '{}', who || ' sees nothing of the schema')
from unnest(array['anon', 'authenticated', 'service_role', 'authenticator']) as who;
select schema_privs_are('voicemeet', 'voicemeet_function', array['USAGE'], 'the function sees the schema');

select table_privs_are('voicemeet', relname, who, '{}', who || ' may not touch ' || relname)
from pg_class, unnest(array['anon', 'authenticated', 'service_role', 'voicemeet_function']) as who
where relnamespace = 'voicemeet'::regnamespace and relkind in ('r', 'v', 'm', 'p');
select is(relrowsecurity, true, relname || ' has row security on')
from pg_class where relnamespace = 'voicemeet'::regnamespace and relkind = 'r';
select policies_are('voicemeet', relname, '{}', relname || ' has no policy for anybody')
from pg_class where relnamespace = 'voicemeet'::regnamespace and relkind = 'r';

-- Over all functions, so that a new one is caught by itself.
select is(has_function_privilege(who, oid, 'execute'), false, who || ' may not run ' || oid::regprocedure)
from pg_proc, unnest(array['anon', 'authenticated', 'service_role']) as who
where pronamespace = 'voicemeet'::regnamespace;
select is((
    select array_agg(proname::text order by proname) from pg_proc where pronamespace = 'voicemeet'::regnamespace
        and has_function_privilege('voicemeet_function', oid, 'execute')),
    array['doors', 'ended', 'health', 'keep_grant', 'leave', 'match', 'renew', 'report', 'session'],
    'the function may run the verbs and nothing else');
select ok(proconfig @> array['search_path=""'], oid::regprocedure || ' has an empty search_path')
from pg_proc where pronamespace = 'voicemeet'::regnamespace and prosecdef;
select is(prosecdef, true, oid::regprocedure || ' runs with its owner''s rights')
from pg_proc where pronamespace = 'voicemeet'::regnamespace
    and has_function_privilege('voicemeet_function', oid, 'execute');
select is(rolsuper or rolbypassrls or rolcreaterole, false, 'the function''s role is a plain one')
from pg_roles where rolname = 'voicemeet_function';

-- What must not survive a crash or reach a replica, and what must.
select is(relpersistence, case when relname in ('settings', 'pools', 'passes', 'reports', 'scores', 'call_hours')
    then 'p' else 'u' end::"char", relname || ' is logged, or not, as it should be')
from pg_class where relnamespace = 'voicemeet'::regnamespace and relkind = 'r';
select is_empty($$select from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'$$,
    'nothing of ours is where the platform''s default grants are');

-- Statements, not only the catalogue's word for it.
set local role anon;
select throws_ok('select * from voicemeet.tickets', '42501', null, 'anon reads no ticket');
select throws_ok('select voicemeet.match(''{}'')', '42501', null, 'anon asks no verb');
select throws_ok('select voicemeet.make_pass(''public'', ''caller'')', '42501', null, 'anon makes no pass');
reset role;
set local role voicemeet_function;
select throws_ok('select * from voicemeet.reports', '42501', null, 'the function reads no report');
select throws_ok('select voicemeet.make_pass(''public'', ''caller'')', '42501', null, 'nor makes it a pass');
select throws_ok('select voicemeet.purge()', '42501', null, 'nor purges');
select lives_ok('select voicemeet.health()', 'it may run what it needs');
reset role;

select policies_are('realtime', 'messages', array[
    'voicemeet: hear the own call or ticket', 'voicemeet: speak in the own call'],
    'Realtime has our two policies');
select policy_roles_are('realtime', 'messages', 'voicemeet: hear the own call or ticket', array['anon'], 'for anon');
select policy_roles_are('realtime', 'messages', 'voicemeet: speak in the own call', array['anon'], 'for anon');
select policy_cmd_is('realtime', 'messages', 'voicemeet: hear the own call or ticket', 'select', 'for select');
select policy_cmd_is('realtime', 'messages', 'voicemeet: speak in the own call', 'insert', 'for insert');

select * from finish();
rollback;
