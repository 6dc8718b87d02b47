-- What a group may have left behind in this database, that no session role owns, as sentences: what is there afterwards and
-- was not before, or not so, was left.
CREATE OR REPLACE FUNCTION halligan.standing_in(member_of text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF member_of IS NULL OR member_of <> ALL (halligan.groups()) THEN
    RAISE EXCEPTION 'sessions may not belong to the role %', quote_nullable(member_of) USING ERRCODE = '42501';
  END IF;
  RETURN (SELECT coalesce(jsonb_agg(say ORDER BY say), '[]') FROM (
    SELECT format('default privileges of %s on %s%s: %s', d.defaclrole::regrole,
        CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types'
                             WHEN 'n' THEN 'schemas' ELSE d.defaclobjtype::text END,
        CASE WHEN d.defaclnamespace = 0 THEN '' ELSE ' in ' || d.defaclnamespace::regnamespace::text END, d.defaclacl::text) AS say
      FROM pg_default_acl d WHERE pg_has_role(member_of, d.defaclrole, 'MEMBER')
        OR EXISTS (SELECT FROM aclexplode(d.defaclacl) a JOIN pg_roles r ON r.oid = a.grantee
                   WHERE halligan.is_ours(r.rolname) OR halligan.is_prepared(r.rolname))
    UNION ALL SELECT format('event trigger %s', evtname) FROM pg_event_trigger
    UNION ALL SELECT format('publication %s of %s', pubname, pubowner::regrole) FROM pg_publication
      WHERE pg_has_role(member_of, pubowner, 'MEMBER')) t);
END
$$;

-- The database that has the jobs of pg_cron; empty where there is no pg_cron.
CREATE OR REPLACE FUNCTION halligan.cron_database() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT coalesce(current_setting('cron.database_name', true), '') $$;

-- The jobs of pg_cron that would run as one of these roles. They belong to who ran the set-up, since others see only their own.
CREATE OR REPLACE FUNCTION halligan.cron_jobs(logins text[]) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found jsonb := '[]';
BEGIN
  IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
    EXECUTE 'SELECT coalesce(jsonb_agg(format(''job %s of pg_cron as %s'', jobid, username) ORDER BY jobid), ''[]'')
             FROM cron.job WHERE username = ANY ($1)' INTO found USING logins;
  END IF;
  RETURN found;
END
$$;

-- Jobs of a session role or standing role end with its grant.
CREATE OR REPLACE FUNCTION halligan.cron_stop(login text) RETURNS int
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
  ended int := 0;
BEGIN
  IF login IS NULL OR login !~ '^halligan_(grt|prep)_' THEN
    RAISE EXCEPTION '% is no name of a session role', quote_nullable(login) USING ERRCODE = '42501';
  END IF;
  IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_cron') THEN
    EXECUTE 'SELECT count(cron.unschedule(jobid)) FROM cron.job WHERE username = $1' INTO ended USING login;
  END IF;
  RETURN ended;
END
$$;

