-- Standing roles: made beforehand, so that a grant writes nothing here. Only a client certificate of the connector's
-- authority opens them, by pg_hba.conf; they have no password.
CREATE OR REPLACE FUNCTION halligan.is_prepared(login text) RETURNS boolean LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(login ~ '^halligan_prep_[0-9]{2}_[A-Za-z0-9_.-]{1,46}$', false) $$;

-- The settings of every role of ours, so that the server notices by itself that a gateway is gone.
CREATE OR REPLACE FUNCTION halligan.role_settings() RETURNS text[] LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT array_agg(one) FROM unnest(ARRAY['client_connection_check_interval=2000', 'tcp_keepalives_idle=10', 'tcp_keepalives_interval=5',
                                          'tcp_keepalives_count=3']) one
  WHERE EXISTS (SELECT FROM pg_settings WHERE name = split_part(one, '=', 1))
$$;

DO $setup$
DECLARE
  logins text[] := @PREPARED_LOGINS@;
  members text[] := @PREPARED_GROUPS@;
  login text;
  one text;
BEGIN
  FOR i IN 1 .. coalesce(array_length(logins, 1), 0) LOOP
    login := logins[i];
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', login);
      EXECUTE format('GRANT halligan_prepared TO %I', login);
    ELSIF NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
                      WHERE r.rolname = login AND m.roleid = 'halligan_prepared'::regrole) THEN
      RAISE EXCEPTION 'there is a role % that is not ours', login;
    END IF;
    EXECUTE format('GRANT %I TO %I', members[i], login);
    EXECUTE format('GRANT %I TO halligan_owner WITH ADMIN OPTION', login);
    IF current_setting('server_version_num')::int >= 160000 THEN
      EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET TRUE', members[i], login);
      EXECUTE format('GRANT halligan_prepared TO %I WITH INHERIT FALSE, SET FALSE', login);
      EXECUTE format('GRANT %I TO halligan_owner WITH INHERIT TRUE, SET TRUE', login);
      -- The seats that are kept free for when the server is full (reserved_connections).
      EXECUTE format('GRANT pg_use_reserved_connections TO %I WITH INHERIT TRUE', login);
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 20 VALID UNTIL ''infinity'' PASSWORD NULL', login);
    -- An older script had others.
    EXECUTE format('ALTER ROLE %I RESET ALL', login);
    FOREACH one IN ARRAY halligan.role_settings() LOOP
      EXECUTE format('ALTER ROLE %I SET %I = %L', login, split_part(one, '=', 1), split_part(one, '=', 2));
    END LOOP;
    EXECUTE format('COMMENT ON ROLE %I IS %L', login, 'Halligan: a standing role for grants of ' || members[i] || ', opened by a client certificate only');
  END LOOP;
  -- What is not listed any more is shut, and can be dropped by whoever looks after the server.
  FOR login IN SELECT r.rolname FROM pg_roles r JOIN pg_auth_members m ON m.member = r.oid AND m.roleid = 'halligan_prepared'::regrole
               WHERE halligan.is_prepared(r.rolname) AND r.rolname <> ALL (logins) LOOP
    EXECUTE format('ALTER ROLE %I NOLOGIN PASSWORD NULL', login);
  END LOOP;
END
$setup$;

-- Whether a standing role of this name exists.
CREATE OR REPLACE FUNCTION halligan.prepared_exists(login text) RETURNS boolean LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT halligan.is_prepared(login) THEN
    RAISE EXCEPTION '% is no name of a standing role', quote_literal(login) USING ERRCODE = '42501';
  END IF;
  RETURN EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
                 WHERE r.rolname = login AND m.roleid = 'halligan_prepared'::regrole);
END
$$;

-- Whether somebody gave a standing role a password. It belongs to who ran the set-up, since nobody else may look; null where
-- they may not either.
CREATE OR REPLACE FUNCTION halligan.has_password(login text) RETURNS boolean
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF login IS NULL OR login !~ '^halligan_prep_' THEN
    RETURN NULL;
  END IF;
  RETURN (SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = login);
EXCEPTION WHEN insufficient_privilege THEN
  RETURN NULL;
END
$$;

-- What a session can have left at its standing role, as sentences: from inside one can give oneself a password and settings,
-- and up to PostgreSQL 14 members.
CREATE OR REPLACE FUNCTION halligan.prepared_dirt(login text) RETURNS jsonb LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH role AS (SELECT * FROM pg_roles WHERE rolname = login), things(say) AS (
    SELECT 'it has a password' WHERE halligan.has_password(login)
    UNION ALL SELECT format('it has a setting of its own: %s%s', split_part(s, '=', 1), CASE WHEN d.setdatabase <> 0 THEN ' in one database' ELSE '' END)
      FROM role, pg_db_role_setting d, unnest(d.setconfig) s
      WHERE d.setrole = role.oid AND (d.setdatabase <> 0 OR s <> ALL (halligan.role_settings()))
    UNION ALL SELECT format('it lacks the setting %s', s) FROM role, unnest(halligan.role_settings()) s
      WHERE NOT EXISTS (SELECT FROM pg_db_role_setting d WHERE d.setrole = role.oid AND d.setdatabase = 0 AND s = ANY (d.setconfig))
    UNION ALL SELECT format('%s is a member of it', m.member::regrole) FROM role, pg_auth_members m
      WHERE m.roleid = role.oid AND m.member <> 'halligan_owner'::regrole
    UNION ALL SELECT format('it is a member of %s', m.roleid::regrole) FROM role, pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
      WHERE m.member = role.oid AND g.rolname <> ALL (halligan.groups() || ARRAY['halligan_prepared', 'pg_use_reserved_connections'])
    UNION ALL SELECT 'it is more than a standing role may be' FROM role
      WHERE rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
  )
  SELECT coalesce(jsonb_agg(say ORDER BY say), '[]') FROM things
$$;

-- All standing roles, and how they are.
CREATE OR REPLACE FUNCTION halligan.prepared_roles() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
    'login', r.rolname, 'group', halligan.group_of(r.rolname), 'can_login', r.rolcanlogin,
    'backends', (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid),
    'dirt', halligan.prepared_dirt(r.rolname)) ORDER BY r.rolname), '[]')
  FROM pg_roles r JOIN pg_auth_members m ON m.member = r.oid AND m.roleid = 'halligan_prepared'::regrole
  WHERE halligan.is_prepared(r.rolname)
$$;

-- What a server that is used by standing roles must have.
CREATE OR REPLACE FUNCTION halligan.prepared_server() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('version', current_setting('server_version_num')::int, 'client_ca', current_setting('ssl_ca_file') <> '',
    'reserved', coalesce(current_setting('reserved_connections', true), '0')::int, 'standby', pg_is_in_recovery())
$$;

-- Ends backends of a standing role: all, those of one session by the name that it came with, or one by its number. Writes
-- nothing, so it works where nothing can be written.
CREATE OR REPLACE FUNCTION halligan.prepared_terminate(login text, application text, backend int) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT halligan.prepared_exists(login) THEN
    RETURN 0;
  END IF;
  RETURN (SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
          WHERE a.usesysid = (SELECT oid FROM pg_roles WHERE rolname = login)
            AND ((application IS NULL AND backend IS NULL) OR a.application_name = application OR a.pid = backend));
END
$$;

-- Makes a standing role again what it was, and gives what it owns in this database to its group. Only where there is
-- something to do, so that a server that takes no writes is not asked for any. Returns whether there was.
CREATE OR REPLACE FUNCTION halligan.prepared_reset(login text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
  role_oid oid;
  heir text := halligan.group_of(login);
  one text;
  did boolean := false;
BEGIN
  IF NOT halligan.prepared_exists(login) THEN
    RETURN false;
  END IF;
  role_oid := (SELECT oid FROM pg_roles WHERE rolname = login);
  IF EXISTS (SELECT FROM pg_stat_activity WHERE usesysid = role_oid) THEN
    RAISE EXCEPTION 'there are backends of % left', login USING ERRCODE = '55006';
  END IF;
  IF EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = role_oid) THEN
    IF heir IS NULL THEN
      RAISE EXCEPTION '% belongs to none of the listed groups any more: nobody inherits what it made', login USING ERRCODE = '55000';
    END IF;
    PERFORM halligan.give(login, heir);
    did := true;
  END IF;
  IF halligan.prepared_dirt(login) = '[]' THEN
    RETURN did;
  END IF;
  FOR one IN SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
             WHERE m.roleid = role_oid AND r.rolname <> 'halligan_owner' LOOP
    EXECUTE format('REVOKE %I FROM %I', login, one);
  END LOOP;
  FOR one IN SELECT b.datname FROM pg_db_role_setting d JOIN pg_database b ON b.oid = d.setdatabase WHERE d.setrole = role_oid LOOP
    EXECUTE format('ALTER ROLE %I IN DATABASE %I RESET ALL', login, one);
  END LOOP;
  EXECUTE format('ALTER ROLE %I RESET ALL', login);
  FOREACH one IN ARRAY halligan.role_settings() LOOP
    EXECUTE format('ALTER ROLE %I SET %I = %L', login, split_part(one, '=', 1), split_part(one, '=', 2));
  END LOOP;
  EXECUTE format('ALTER ROLE %I PASSWORD NULL', login);
  RAISE LOG 'halligan: the standing role % is again what it was', login;
  RETURN true;
END
$$;

