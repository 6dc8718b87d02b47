-- Code that a group may have planted where others run it, and rights that it may have given away, as sentences: each says
-- where it stands and, by a digest, what it does.
CREATE OR REPLACE FUNCTION halligan.doors_in(member_of text) RETURNS TABLE (place text, say text) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH mine AS MATERIALIZED (
    SELECT oid, oid::regrole::text AS name FROM pg_roles WHERE pg_has_role(member_of, oid, 'MEMBER')
  ), code(place, say, does) AS (
    SELECT p.pronamespace, format('the function %s, which runs as %s', p.oid::regprocedure, m.name),
        concat_ws(' ', p.prolang, p.proconfig::text, p.proacl::text, p.probin, p.prosrc, p.prosqlbody::text)
      FROM pg_proc p JOIN mine m ON m.oid = p.proowner WHERE p.prosecdef
    -- Where it owns the table or has been given TRIGGER on it.
    UNION ALL SELECT c.relnamespace, format('the trigger %I on %s', t.tgname, c.oid::regclass),
        concat_ws(' ', t.tgenabled, pg_get_triggerdef(t.oid), p.oid::regprocedure, p.prosrc, p.probin)
      FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
      WHERE NOT t.tgisinternal AND c.relpersistence <> 't'
        AND (c.relowner IN (SELECT oid FROM mine) OR has_table_privilege(member_of, c.oid, 'TRIGGER'))
    UNION ALL SELECT c.relnamespace, format('the rule %I on %s', r.rulename, c.oid::regclass),
        concat_ws(' ', r.ev_enabled, pg_get_ruledef(r.oid))
      FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
      WHERE r.rulename <> '_RETURN' AND c.relpersistence <> 't' AND c.relowner IN (SELECT oid FROM mine)
    UNION ALL SELECT c.relnamespace, format('the view %s, which others may read', c.oid::regclass),
        concat_ws(' ', c.reloptions::text, pg_get_viewdef(c.oid))
      FROM pg_class c
      WHERE c.relkind = 'v' AND c.relpersistence <> 't' AND c.relowner IN (SELECT oid FROM mine)
        AND EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee NOT IN (SELECT oid FROM mine))
    UNION ALL SELECT c.relnamespace, format('the policy %I on %s', p.polname, c.oid::regclass),
        concat_ws(' ', p.polcmd, p.polpermissive, p.polroles::text, pg_get_expr(p.polqual, c.oid), pg_get_expr(p.polwithcheck, c.oid))
      FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relowner IN (SELECT oid FROM mine)
    UNION ALL SELECT c.relnamespace, format('row security of %s, which is off or not for its owner', c.oid::regclass),
        concat_ws(' ', c.relrowsecurity, c.relforcerowsecurity)
      FROM pg_class c WHERE c.relowner IN (SELECT oid FROM mine) AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
        AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
  ), lists(class, object, part, place, list) AS (
    SELECT 'pg_class'::regclass, oid, 0, relnamespace, relacl FROM pg_class WHERE relacl IS NOT NULL AND relpersistence <> 't'
    UNION ALL SELECT 'pg_class'::regclass, c.oid, a.attnum, c.relnamespace, a.attacl
      FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND c.relpersistence <> 't'
    UNION ALL SELECT 'pg_proc'::regclass, oid, 0, pronamespace, proacl FROM pg_proc WHERE proacl IS NOT NULL
    UNION ALL SELECT 'pg_type'::regclass, oid, 0, typnamespace, typacl FROM pg_type WHERE typacl IS NOT NULL
    UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, oid, nspacl FROM pg_namespace WHERE nspacl IS NOT NULL
    UNION ALL SELECT 'pg_database'::regclass, oid, 0, 0, coalesce(datacl, acldefault('d', datdba))
      FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'pg_language'::regclass, oid, 0, 0, lanacl FROM pg_language WHERE lanacl IS NOT NULL
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, 0, fdwacl FROM pg_foreign_data_wrapper WHERE fdwacl IS NOT NULL
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, 0, 0, srvacl FROM pg_foreign_server WHERE srvacl IS NOT NULL
    UNION ALL SELECT 'pg_largeobject'::regclass, oid, 0, 0, lomacl FROM pg_largeobject_metadata WHERE lomacl IS NOT NULL
  ), given(place, say) AS (
    SELECT l.place, format('the right %s%s on %s, which %s gave to %s', a.privilege_type,
        CASE WHEN a.is_grantable THEN ' (and to give it on)' ELSE '' END, pg_describe_object(l.class, l.object, l.part), m.name,
        CASE WHEN a.grantee = 0 THEN 'everybody' ELSE a.grantee::regrole::text END)
      FROM lists l CROSS JOIN LATERAL aclexplode(l.list) a JOIN mine m ON m.oid = a.grantor
      LEFT JOIN pg_roles r ON r.oid = a.grantee
      WHERE a.grantee NOT IN (SELECT oid FROM mine)
        AND NOT coalesce(halligan.is_ours(r.rolname) OR halligan.is_prepared(r.rolname), false)
        -- Everybody has these from the start: a list that is written out only says so.
        AND NOT (a.grantee = 0 AND l.class IN ('pg_proc'::regclass, 'pg_type'::regclass, 'pg_language'::regclass))
        -- Whatever is new has what default privileges give; those are compared themselves.
        AND NOT EXISTS (SELECT FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) e
                        WHERE l.part = 0 AND d.defaclrole = a.grantor AND d.defaclnamespace IN (0, l.place)
                          AND (l.class, d.defaclobjtype::text) IN (('pg_class'::regclass, 'r'), ('pg_class'::regclass, 'S'),
                            ('pg_proc'::regclass, 'f'), ('pg_type'::regclass, 'T'), ('pg_namespace'::regclass, 'n'))
                          AND (e.grantee, e.privilege_type, e.is_grantable) = (a.grantee, a.privilege_type, a.is_grantable))
  )
  SELECT coalesce(n.nspname, ''), format('%s (%s)', c.say,
      left(encode(sha256(convert_to(c.does, getdatabaseencoding())), 'hex'), 16))
    FROM code c LEFT JOIN pg_namespace n ON n.oid = c.place
  UNION ALL SELECT coalesce(n.nspname, ''), g.say FROM given g LEFT JOIN pg_namespace n ON n.oid = g.place
$$;

-- What a group may have left behind in this database, that no session role owns, as sentences: what is there afterwards and
-- was not before, or not so, was left.
CREATE OR REPLACE FUNCTION halligan.standing_in(member_of text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF member_of IS NULL OR member_of <> ALL (halligan.groups()) THEN
    RAISE EXCEPTION 'sessions may not belong to the role %', quote_nullable(member_of) USING ERRCODE = '42501';
  END IF;
  RETURN (WITH doors AS MATERIALIZED (SELECT place, say FROM halligan.doors_in(member_of))
  SELECT coalesce(jsonb_agg(say ORDER BY say), '[]') FROM (
    SELECT say FROM doors WHERE (SELECT count(*) FROM doors) <= 5000
    -- Too many to be listed one by one: what others got in each schema stands together.
    UNION ALL SELECT format('code and rights of %s in the schema %I, other than before: %s (%s)', member_of, place, count(*),
        left(encode(sha256(convert_to(string_agg(say, ' ' ORDER BY say), getdatabaseencoding())), 'hex'), 16))
      FROM doors GROUP BY place HAVING (SELECT count(*) FROM doors) > 5000
    UNION ALL SELECT format('default privileges of %s on %s%s: %s', d.defaclrole::regrole,
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

