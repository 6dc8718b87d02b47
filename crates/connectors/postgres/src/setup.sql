-- Halligan: sessions of people in this PostgreSQL server. Run as superuser, in every database that sessions may open and in
-- the one that the connector connects to:   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f this-file
-- It may be run again at any time, also after an upgrade or to change the list of groups.
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL log_statement = 'none';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_error_statement = 'panic';

-- Five roles. Nobody can log in as the first four.
DO $setup$
DECLARE
  one text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'halligan_owner') THEN
    CREATE ROLE halligan_owner;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'halligan_sessions') THEN
    CREATE ROLE halligan_sessions;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'halligan_prepared') THEN
    CREATE ROLE halligan_prepared;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'halligan_probe') THEN
    CREATE ROLE halligan_probe;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = @CONNECTOR@) THEN
    CREATE ROLE @CONNECTOR_ID@;
  END IF;
  FOREACH one IN ARRAY @GROUPS@ LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = one) THEN
      RAISE EXCEPTION 'the group role % does not exist: make it first, NOLOGIN, with the rights that it shall have', one;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = one AND (rolsuper OR rolcanlogin)) THEN
      RAISE EXCEPTION 'the role % can log in or is a superuser: a group role is NOLOGIN and holds nothing but its rights', one;
    END IF;
    IF pg_has_role(one, 'halligan_owner', 'MEMBER') THEN
      RAISE EXCEPTION 'the group role % is a member of halligan_owner: then its members could make themselves anybody', one;
    END IF;
  END LOOP;
END
$setup$;
-- Owns the functions below, and nothing else. CREATEROLE is what makes and drops session roles.
ALTER ROLE halligan_owner NOLOGIN NOSUPERUSER INHERIT CREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS PASSWORD NULL;
-- Every session role is a member: by it pg_hba.conf knows them.
ALTER ROLE halligan_sessions NOLOGIN NOSUPERUSER NOINHERIT NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS PASSWORD NULL;
-- Every standing role is a member: by it pg_hba.conf knows them.
ALTER ROLE halligan_prepared NOLOGIN NOSUPERUSER NOINHERIT NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS PASSWORD NULL;
-- A session role that never is one: logging in as it must be refused by pg_hba.conf.
ALTER ROLE halligan_probe NOLOGIN NOSUPERUSER NOINHERIT NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS PASSWORD NULL;
-- The connector's own account: it owns nothing, and can do nothing but call the functions.
ALTER ROLE @CONNECTOR_ID@ LOGIN NOSUPERUSER NOINHERIT NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 20 PASSWORD @VERIFIER@;
-- The server's log would otherwise hold the verifiers of session roles. The functions log what they do.
ALTER ROLE @CONNECTOR_ID@ SET log_statement = 'none';
ALTER ROLE @CONNECTOR_ID@ SET log_min_duration_statement = -1;
ALTER ROLE @CONNECTOR_ID@ SET log_min_error_statement = 'panic';
ALTER ROLE @CONNECTOR_ID@ SET search_path = 'pg_catalog';
GRANT halligan_sessions TO halligan_owner WITH ADMIN OPTION;
GRANT halligan_sessions TO halligan_probe;
GRANT pg_signal_backend, pg_read_all_stats, pg_read_all_settings TO halligan_owner;
DO $setup$
DECLARE
  one text;
BEGIN
  FOREACH one IN ARRAY @GROUPS@ LOOP
    EXECUTE format('GRANT %I TO halligan_owner WITH ADMIN OPTION', one);
  END LOOP;
  IF current_setting('server_version_num')::int >= 160000 THEN
    EXECUTE format('GRANT pg_use_reserved_connections TO %I WITH INHERIT TRUE', @CONNECTOR@);
    -- Since 16 only who holds ADMIN on a role may end it: session roles that were made before an upgrade.
    FOR one IN SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
               WHERE m.roleid = 'halligan_sessions'::regrole AND r.rolname ~ '^halligan_grt_' LOOP
      EXECUTE format('GRANT %I TO halligan_owner WITH ADMIN OPTION', one);
    END LOOP;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'halligan') THEN
    CREATE SCHEMA halligan AUTHORIZATION halligan_owner;
  ELSIF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'halligan' AND nspowner <> 'halligan_owner'::regrole) THEN
    RAISE EXCEPTION 'there is a schema halligan that is not ours';
  END IF;
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), @CONNECTOR@);
END
$setup$;
REVOKE ALL ON SCHEMA halligan FROM PUBLIC;
GRANT USAGE ON SCHEMA halligan TO @CONNECTOR_ID@;
GRANT SELECT ON pg_hba_file_rules TO halligan_owner;
GRANT EXECUTE ON FUNCTION pg_hba_file_rules() TO halligan_owner;

-- The groups that a session may belong to. To change them, run the script again with another list.
CREATE OR REPLACE FUNCTION halligan.groups() RETURNS text[] LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT @GROUPS@ $$;

-- Whether a name is that of a session role, by its form.
CREATE OR REPLACE FUNCTION halligan.is_ours(login text) RETURNS boolean LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(login ~ '^halligan_grt_[0-9a-hjkmnp-tv-z]{26}_[a-z0-9._-]{1,23}$', false) $$;

-- Whether a session role of this name exists. A role of such a name that is none of ours is never touched.
CREATE OR REPLACE FUNCTION halligan.exists(login text) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT halligan.is_ours(login) THEN
    RAISE EXCEPTION '% is no name of a session role', quote_literal(login) USING ERRCODE = '42501';
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
    RETURN false;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
                 WHERE r.rolname = login AND m.roleid = 'halligan_sessions'::regrole) THEN
    RAISE EXCEPTION 'the role % was not made by Halligan', login USING ERRCODE = '42501';
  END IF;
  RETURN true;
END
$$;

-- The group of a session role.
CREATE OR REPLACE FUNCTION halligan.group_of(login text) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT min(g.rolname) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
  WHERE r.rolname = login AND g.rolname = ANY (halligan.groups())
$$;

@PREPARED@
-- begin: makes the role of a session, or gives the one there is a new verifier and a new end. Takes a SCRAM verifier, never
-- a password. Returns what is there already, so that what is there afterwards can be told from it.
CREATE OR REPLACE FUNCTION halligan.session_begin(login text, member_of text, verifier text, until timestamptz, connections int,
                                                  note text)
RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
  existed boolean := halligan.exists(login);
  one text;
BEGIN
  IF member_of IS NULL OR member_of <> ALL (halligan.groups()) THEN
    RAISE EXCEPTION 'sessions may not belong to the role %', quote_nullable(member_of) USING ERRCODE = '42501';
  END IF;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = member_of AND (rolsuper OR rolcanlogin))
     OR pg_has_role(member_of, 'halligan_owner', 'MEMBER') THEN
    RAISE EXCEPTION 'the role % can log in or has grown too powerful since the set-up', member_of USING ERRCODE = '42501';
  END IF;
  IF verifier IS NULL OR verifier !~ '^SCRAM-SHA-256\$[1-9][0-9]{3,5}:[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$' THEN
    RAISE EXCEPTION 'that is no SCRAM verifier' USING ERRCODE = '22023';
  END IF;
  IF until IS NULL OR until <= now() OR until > now() + interval '31 days' THEN
    RAISE EXCEPTION 'a session role ends within 31 days, and not before now' USING ERRCODE = '22023';
  END IF;
  IF connections IS NULL OR connections NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'between 1 and 1000 connections' USING ERRCODE = '22023';
  END IF;
  IF existed AND halligan.group_of(login) IS DISTINCT FROM member_of THEN
    RAISE EXCEPTION '% belongs to another group', login USING ERRCODE = '42501';
  END IF;
  IF NOT existed THEN
    EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS', login);
    -- INHERIT: after DISCARD ALL a session is itself and not its group, and must still work. What it makes then is given
    -- to the group at its end.
    EXECUTE format('GRANT %I TO %I', member_of, login);
    EXECUTE format('GRANT halligan_sessions TO %I', login);
    IF current_setting('server_version_num')::int >= 160000 THEN
      EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET TRUE', member_of, login);
      EXECUTE format('GRANT halligan_sessions TO %I WITH INHERIT FALSE, SET FALSE', login);
      EXECUTE format('GRANT %I TO halligan_owner WITH INHERIT TRUE, SET TRUE', login);
    ELSE
      EXECUTE format('GRANT %I TO halligan_owner', login);
    END IF;
    -- So that the server notices by itself that a gateway is gone.
    FOREACH one IN ARRAY halligan.role_settings() LOOP
      EXECUTE format('ALTER ROLE %I SET %I = %L', login, split_part(one, '=', 1), split_part(one, '=', 2));
    END LOOP;
  END IF;
  EXECUTE format('COMMENT ON ROLE %I IS %L', login, left(note, 500));
  EXECUTE format('ALTER ROLE %I LOGIN CONNECTION LIMIT %s VALID UNTIL %L PASSWORD %L', login, connections, until, verifier);
  RAISE LOG 'halligan: % may log in as a member of % until %', login, member_of, until;
  RETURN halligan.standing(member_of) || jsonb_build_object('existed', existed);
END
$$;

-- What of a group may stand before a session begins, and has no owner among the roles of sessions.
CREATE OR REPLACE FUNCTION halligan.standing(member_of text) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'at', now(),
    'subscriptions', (SELECT coalesce(jsonb_agg(s.subname || ' in ' || b.datname ORDER BY s.subname), '[]')
                      FROM pg_subscription s JOIN pg_database b ON b.oid = s.subdbid),
    -- Of roles that it may give to others.
    'members', (SELECT coalesce(jsonb_agg(DISTINCT r.rolname || ' in ' || g.rolname || CASE WHEN m.admin_option THEN ' (and to give it on)' ELSE '' END), '[]')
                FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid
                WHERE (pg_has_role(member_of, m.grantor, 'MEMBER')
                       OR EXISTS (SELECT FROM pg_auth_members a WHERE a.roleid = m.roleid AND a.admin_option AND pg_has_role(member_of, a.member, 'MEMBER')))
                  AND NOT halligan.is_ours(r.rolname) AND NOT halligan.is_prepared(r.rolname)),
    'slots', (SELECT coalesce(jsonb_agg(slot_name ORDER BY slot_name), '[]') FROM pg_replication_slots WHERE NOT temporary),
    -- Of ours, of roles that are gone, and of those that it may act as; an application's own are none of its business.
    'prepared', (SELECT coalesce(jsonb_agg(gid || ' in ' || coalesce(database, '?') || ' of ' || coalesce(owner, 'a role that is gone') ORDER BY gid), '[]')
                 FROM pg_prepared_xacts
                 WHERE owner IS NULL OR halligan.is_ours(owner) OR halligan.is_prepared(owner) OR pg_has_role(member_of, owner, 'MEMBER')),
    'defaults', (SELECT coalesce(jsonb_agg(coalesce(b.datname, '?') || '/' || d.objid ORDER BY d.dbid, d.objid), '[]')
                 FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
                 WHERE d.refclassid = 'pg_authid'::regclass AND d.classid = 'pg_default_acl'::regclass AND d.deptype = 'o'
                   AND d.refobjid = (SELECT oid FROM pg_roles WHERE rolname = member_of)))
$$;

-- A grant that was extended: its session roles may log in for longer.
CREATE OR REPLACE FUNCTION halligan.session_until(login text, until timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
  IF until IS NULL OR until <= now() OR until > now() + interval '31 days' THEN
    RAISE EXCEPTION 'a session role ends within 31 days, and not before now' USING ERRCODE = '22023';
  END IF;
  IF NOT halligan.exists(login) THEN
    RETURN false;
  END IF;
  EXECUTE format('ALTER ROLE %I VALID UNTIL %L', login, until);
  RETURN true;
END
$$;

-- end, first step: nobody logs in as it any more.
CREATE OR REPLACE FUNCTION halligan.session_shut(login text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
  IF NOT halligan.exists(login) THEN
    RETURN false;
  END IF;
  EXECUTE format('ALTER ROLE %I NOLOGIN CONNECTION LIMIT 0 VALID UNTIL ''-infinity'' PASSWORD NULL', login);
  RAISE LOG 'halligan: % cannot log in any more', login;
  RETURN true;
END
$$;

-- end, second step: its backends end. Returns how many there still were. With `application` and `backend` only those of one
-- session: by the name that it came with, which a person can change, or by their number.
DROP FUNCTION IF EXISTS halligan.session_terminate(text, text);
CREATE OR REPLACE FUNCTION halligan.session_terminate(login text, application text, backend int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT halligan.exists(login) THEN
    RETURN 0;
  END IF;
  RETURN (SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
          WHERE a.usesysid = (SELECT oid FROM pg_roles WHERE rolname = login)
            AND ((application IS NULL AND backend IS NULL) OR a.application_name = application OR a.pid = backend));
END
$$;

-- end, third step: in which databases something depends on it; what depends on it in this one goes to its group.
CREATE OR REPLACE FUNCTION halligan.session_databases(login text) RETURNS text[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT halligan.is_prepared(login) AND NOT halligan.exists(login) THEN
    RETURN '{}';
  END IF;
  RETURN (SELECT coalesce(array_agg(DISTINCT coalesce(b.datname, current_database())::text), '{}')
          FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
          WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = (SELECT oid FROM pg_roles WHERE rolname = login));
END
$$;

-- Gives all that a role has in this database to its group, and takes its rights.
CREATE OR REPLACE FUNCTION halligan.give(login text, heir text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  one text;
  lent text[] := '{}';
BEGIN
  BEGIN
    EXECUTE format('REASSIGN OWNED BY %I TO %I', login, heir);
  EXCEPTION WHEN insufficient_privilege THEN
    -- Nobody can be given a thing in a schema where they may not create. A session can have taken that right from its group,
    -- so the group has it for the moment of giving, where it is the group's to have.
    FOR one IN SELECT nspname FROM pg_namespace WHERE nspowner = (SELECT oid FROM pg_roles WHERE rolname = login) LOOP
      EXECUTE format('ALTER SCHEMA %I OWNER TO %I', one, heir);
    END LOOP;
    FOR one IN SELECT DISTINCT n.nspname FROM pg_shdepend d
               CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) i JOIN pg_namespace n ON n.nspname = i.schema
               WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = (SELECT oid FROM pg_roles WHERE rolname = login)
                 AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND d.deptype = 'o'
                 AND pg_has_role(heir, n.nspowner, 'MEMBER') AND NOT has_schema_privilege(heir, n.oid, 'CREATE') LOOP
      EXECUTE format('GRANT CREATE ON SCHEMA %I TO %I', one, heir);
      lent := lent || one;
    END LOOP;
    EXECUTE format('REASSIGN OWNED BY %I TO %I', login, heir);
    FOREACH one IN ARRAY lent LOOP
      EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM %I', one, heir);
    END LOOP;
  END;
  EXECUTE format('DROP OWNED BY %I', login);
END
$$;

CREATE OR REPLACE FUNCTION halligan.session_disown(login text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
  heir text;
BEGIN
  IF NOT halligan.exists(login) THEN
    RETURN false;
  END IF;
  IF (SELECT rolcanlogin FROM pg_roles WHERE rolname = login) THEN
    RAISE EXCEPTION '% can still log in: shut it first', login USING ERRCODE = '55000';
  END IF;
  heir := halligan.group_of(login);
  IF heir IS NULL THEN
    RAISE EXCEPTION '% belongs to none of the listed groups any more: nobody inherits what it made', login USING ERRCODE = '55000';
  END IF;
  PERFORM halligan.give(login, heir);
  RETURN true;
END
$$;

-- end, last step.
CREATE OR REPLACE FUNCTION halligan.session_drop(login text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
  IF NOT halligan.exists(login) THEN
    RETURN false;
  END IF;
  IF (SELECT rolcanlogin FROM pg_roles WHERE rolname = login) THEN
    RAISE EXCEPTION '% can still log in: shut it first', login USING ERRCODE = '55000';
  END IF;
  IF EXISTS (SELECT FROM pg_stat_activity WHERE usesysid = (SELECT oid FROM pg_roles WHERE rolname = login)) THEN
    RAISE EXCEPTION 'there are backends of % left', login USING ERRCODE = '55006';
  END IF;
  EXECUTE format('DROP ROLE %I', login);
  RAISE LOG 'halligan: % is dropped', login;
  RETURN true;
END
$$;

-- look: what there is of a session role, and of what could have been left behind by it.
CREATE OR REPLACE FUNCTION halligan.look(login text, member_of text) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  role_oid oid;
BEGIN
  IF NOT halligan.is_ours(login) AND NOT halligan.is_prepared(login) THEN
    RAISE EXCEPTION '% is no name of a session role', quote_literal(login) USING ERRCODE = '42501';
  END IF;
  IF member_of IS NULL OR member_of <> ALL (halligan.groups()) THEN
    RAISE EXCEPTION 'sessions may not belong to the role %', quote_nullable(member_of) USING ERRCODE = '42501';
  END IF;
  role_oid := (SELECT oid FROM pg_roles WHERE rolname = login);
  RETURN halligan.standing(member_of) || jsonb_build_object(
    'primary', NOT pg_is_in_recovery(),
    'micros', (extract(epoch FROM clock_timestamp()) * 1000000)::int8,
    'system', (SELECT system_identifier::text FROM pg_control_system()),
    'timeline', CASE WHEN pg_is_in_recovery() THEN NULL ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,
    'position', CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn()::text END,
    'role', role_oid IS NOT NULL,
    'can_login', (SELECT rolcanlogin FROM pg_roles WHERE oid = role_oid),
    'dirt', CASE WHEN halligan.is_prepared(login) THEN halligan.prepared_dirt(login) ELSE '[]' END,
    'password', halligan.has_password(login),
    'backends', (SELECT coalesce(jsonb_agg(pid), '[]') FROM pg_stat_activity WHERE usename = login OR usesysid = role_oid),
    'others', (SELECT count(*) FROM pg_auth_members m JOIN pg_auth_members s ON s.member = m.member
               JOIN pg_roles r ON r.oid = m.member AND halligan.is_ours(r.rolname)
               WHERE m.roleid = (SELECT oid FROM pg_roles WHERE rolname = member_of)
                 AND s.roleid = 'halligan_sessions'::regrole AND m.member IS DISTINCT FROM role_oid)
              + (SELECT count(DISTINCT a.usesysid) FROM pg_stat_activity a JOIN pg_auth_members m ON m.member = a.usesysid
                 WHERE halligan.is_prepared(a.usename) AND a.usesysid IS DISTINCT FROM role_oid
                   AND m.roleid = (SELECT oid FROM pg_roles WHERE rolname = member_of)),
    'owned', (SELECT coalesce(jsonb_object_agg(x.db, x.n), '{}') FROM
                (SELECT coalesce(b.datname, 'the server') AS db, count(*) AS n
                 FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
                 WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = role_oid GROUP BY 1) x));
END
$$;

-- sweep: every role that has a name of ours.
CREATE OR REPLACE FUNCTION halligan.sweep() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
    'login', r.rolname, 'group', halligan.group_of(r.rolname), 'can_login', r.rolcanlogin,
    'ours', EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = 'halligan_sessions'::regrole),
    'overdue', coalesce(r.rolvaliduntil, '-infinity') <= now(),
    'backends', (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid))), '[]')
  FROM pg_roles r WHERE halligan.is_ours(r.rolname)
$$;

-- The rules by which this server lets people in, as the file has them.
CREATE OR REPLACE FUNCTION halligan.hba() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('loaded', pg_conf_load_time(), 'version', current_setting('server_version_num')::int, 'rules',
    (SELECT coalesce(jsonb_agg(jsonb_build_object('line', line_number, 'type', type, 'database', database, 'user', user_name,
       'address', address, 'netmask', netmask, 'method', auth_method, 'options', options, 'error', error)
       ORDER BY line_number), '[]') FROM pg_hba_file_rules))
$$;

@AUDIT@
@LEFTOVERS@
@LOG@
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA halligan FROM PUBLIC;
DO $setup$
DECLARE
  one regprocedure;
BEGIN
  FOR one IN SELECT oid FROM pg_proc WHERE pronamespace = 'halligan'::regnamespace LOOP
    -- These few look where only who runs this may look. They call nothing of ours.
    IF one IN (SELECT oid FROM pg_proc WHERE pronamespace = 'halligan'::regnamespace AND proname IN ('has_password', 'cron_jobs', 'cron_stop', 'logins')) THEN
      EXECUTE format('ALTER FUNCTION %s OWNER TO CURRENT_USER', one);
      EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO halligan_owner', one);
      CONTINUE;
    END IF;
    EXECUTE format('ALTER FUNCTION %s OWNER TO halligan_owner', one);
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', one);
  END LOOP;
END
$setup$;
GRANT EXECUTE ON FUNCTION halligan.session_begin(text, text, text, timestamptz, int, text), halligan.session_shut(text), halligan.session_until(text, timestamptz),
  halligan.session_terminate(text, text, int), halligan.session_databases(text), halligan.session_disown(text),
  halligan.session_drop(text), halligan.look(text, text), halligan.sweep(), halligan.hba(), halligan.audit_group(text),
  halligan.audit_server(), halligan.groups(), halligan.prepared_roles(), halligan.prepared_server(),
  halligan.prepared_terminate(text, text, int), halligan.prepared_reset(text), halligan.standing_in(text), halligan.cron_jobs(text[]),
  halligan.cron_stop(text), halligan.cron_database()@LOG_GRANT@ TO @CONNECTOR_ID@;
COMMIT;
