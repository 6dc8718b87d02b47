-- What a group role can really do in this database, also by SET ROLE to what it is a member of: a list of {level, say}.
-- `write` marks what a read-only role must not have.
CREATE OR REPLACE FUNCTION halligan.audit_group(member_of text) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found jsonb := '[]';
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = member_of) THEN
    RETURN jsonb_build_array(jsonb_build_object('kind', 'group', 'say', 'it does not exist'));
  END IF;
  IF member_of <> ALL (halligan.groups()) THEN
    RETURN jsonb_build_array(jsonb_build_object('kind', 'group', 'say', 'it is not among the groups that the set-up lists'));
  END IF;
  WITH reach AS (
    SELECT r.* FROM pg_roles r WHERE pg_has_role(member_of, r.oid, 'MEMBER')
      -- A member of everything is told so once.
      AND NOT EXISTS (SELECT FROM pg_roles g WHERE g.rolname = member_of AND g.rolsuper AND r.oid <> g.oid)
  ), things(kind, say) AS (
    SELECT 'group', format('%s is a superuser', rolname) FROM reach WHERE rolsuper
    UNION ALL SELECT 'group', format('%s can log in', rolname) FROM reach WHERE rolcanlogin
    UNION ALL SELECT 'group', format('%s is %s: its members could make themselves anybody', member_of, rolname) FROM reach WHERE rolname IN ('halligan_owner')
    UNION ALL SELECT 'write', format('%s can make and change roles (CREATEROLE)', rolname) FROM reach WHERE rolcreaterole
    UNION ALL SELECT 'write', format('%s can make databases (CREATEDB)', rolname) FROM reach WHERE rolcreatedb
    UNION ALL SELECT 'write', format('%s can make replication slots and read everything (REPLICATION)', rolname) FROM reach WHERE rolreplication
    UNION ALL SELECT 'write', format('it is a member of %s', rolname) FROM reach
      WHERE rolname IN ('pg_write_all_data', 'pg_write_server_files', 'pg_read_server_files', 'pg_execute_server_program',
                        'pg_signal_backend', 'pg_checkpoint', 'pg_maintain', 'pg_create_subscription', 'pg_database_owner',
                        'pg_signal_autovacuum_worker', 'pg_monitor_admin')
    UNION ALL (SELECT 'write', format('%s owns %s in this database', r.rolname, count(*)) FROM reach r
      JOIN pg_shdepend d ON d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid AND d.deptype = 'o'
        AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) GROUP BY r.rolname)
    UNION ALL SELECT 'write', format('%s may %s %s', r.rolname, p, c.oid::regclass) FROM reach r, pg_class c,
      unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) p
      WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid <> 'pg_settings'::regclass AND NOT r.rolsuper
        AND c.relnamespace <> 'pg_toast'::regnamespace AND NOT pg_is_other_temp_schema(c.relnamespace)
        AND has_table_privilege(r.oid, c.oid, p)
    UNION ALL SELECT 'write', format('%s may %s columns of %s', r.rolname, p, c.oid::regclass) FROM reach r, pg_class c,
      unnest(ARRAY['INSERT', 'UPDATE']) p
      WHERE c.relkind IN ('r', 'p', 'v', 'f') AND c.oid <> 'pg_settings'::regclass AND NOT r.rolsuper
        AND NOT pg_is_other_temp_schema(c.relnamespace)
        AND has_any_column_privilege(r.oid, c.oid, p) AND NOT has_table_privilege(r.oid, c.oid, p)
    UNION ALL SELECT 'write', format('%s may move the sequence %s', r.rolname, c.oid::regclass) FROM reach r, pg_class c
      WHERE c.relkind = 'S' AND NOT r.rolsuper AND has_sequence_privilege(r.oid, c.oid, 'USAGE, UPDATE')
    UNION ALL SELECT 'write', format('%s may create in the schema %s', r.rolname, n.nspname) FROM reach r, pg_namespace n
      WHERE n.nspname !~ '^pg_(toast|temp)' AND NOT r.rolsuper AND has_schema_privilege(r.oid, n.oid, 'CREATE')
    UNION ALL SELECT 'write', format('%s may create schemas in the database %s', r.rolname, current_database()) FROM reach r
      WHERE NOT r.rolsuper AND has_database_privilege(r.oid, current_database(), 'CREATE')
    UNION ALL SELECT 'write', format('%s may create in the tablespace %s', r.rolname, t.spcname) FROM reach r, pg_tablespace t
      WHERE NOT r.rolsuper AND t.spcname <> 'pg_default' AND has_tablespace_privilege(r.oid, t.oid, 'CREATE')
    UNION ALL SELECT 'write', format('%s may write in the untrusted language %s', r.rolname, l.lanname) FROM reach r, pg_language l
      WHERE NOT l.lanpltrusted AND l.lanname NOT IN ('internal', 'c') AND NOT r.rolsuper
        AND has_language_privilege(r.oid, l.oid, 'USAGE')
    UNION ALL SELECT 'write', format('%s may run %s, which acts with the rights of %s', r.rolname, p.oid::regprocedure, p.proowner::regrole)
      FROM reach r, pg_proc p
      WHERE p.prosecdef AND p.pronamespace <> 'halligan'::regnamespace AND p.proowner <> r.oid AND NOT r.rolsuper
        AND has_function_privilege(r.oid, p.oid, 'EXECUTE') AND has_schema_privilege(r.oid, p.pronamespace, 'USAGE')
    UNION ALL SELECT 'write', format('%s may run %s, which runs as a program of the server', r.rolname, p.oid::regprocedure)
      FROM reach r, pg_proc p JOIN pg_language l ON l.oid = p.prolang
      WHERE NOT l.lanpltrusted AND l.lanname NOT IN ('internal', 'c') AND NOT p.prosecdef AND NOT r.rolsuper
        AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
    UNION ALL SELECT 'write', format('%s may run %s, which reaches files of the server or other servers', r.rolname, p.oid::regprocedure)
      FROM reach r, pg_proc p
      WHERE NOT r.rolsuper AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
        AND p.proname IN ('pg_read_file', 'pg_read_binary_file', 'pg_ls_dir', 'pg_stat_file', 'lo_import', 'lo_export',
                          'pg_file_write', 'pg_file_sync', 'pg_file_rename', 'pg_file_unlink',
                          'pg_current_logfile', 'pg_logdir_ls', 'pg_reload_conf', 'pg_rotate_logfile', 'pg_promote',
                          'pg_create_restore_point', 'pg_switch_wal', 'dblink_connect_u', 'dblink', 'dblink_exec', 'dblink_connect')
    UNION ALL SELECT 'write', format('%s may use the foreign server %s', r.rolname, s.srvname) FROM reach r, pg_foreign_server s
      WHERE NOT r.rolsuper AND has_server_privilege(r.oid, s.oid, 'USAGE')
    UNION ALL SELECT 'write', format('%s may change %s large objects', r.rolname, count(*)) FROM reach r, pg_largeobject_metadata m,
      aclexplode(m.lomacl) a WHERE a.privilege_type = 'UPDATE' AND a.grantee IN (0, r.oid) GROUP BY r.rolname
    UNION ALL SELECT 'notice', 'it may make large objects and so fill the disk: REVOKE EXECUTE ON FUNCTION lo_create(oid), lo_creat(int), lo_from_bytea(oid, bytea) FROM PUBLIC'
      WHERE EXISTS (SELECT FROM reach r WHERE NOT r.rolsuper AND has_function_privilege(r.oid, 'lo_create(oid)', 'EXECUTE'))
    UNION ALL SELECT 'notice', 'it may make temporary tables and so fill the disk: REVOKE TEMPORARY ON DATABASE … FROM PUBLIC'
      WHERE EXISTS (SELECT FROM reach r WHERE NOT r.rolsuper AND has_database_privilege(r.oid, current_database(), 'TEMPORARY'))
    UNION ALL SELECT 'write', 'lo_compat_privileges is on: anybody changes any large object' WHERE current_setting('lo_compat_privileges') = 'on'
    -- What others can do with the group's rights without a grant of ours.
    UNION ALL SELECT 'standing', format('%s can log in with its rights at any time', l.rolname) FROM pg_roles l
      WHERE l.rolcanlogin AND NOT l.rolsuper AND l.rolname <> member_of AND pg_has_role(l.oid, member_of, 'MEMBER')
        AND NOT halligan.is_ours(l.rolname) AND NOT halligan.is_prepared(l.rolname)
  )
  SELECT coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'say', say) ORDER BY kind, say), '[]') INTO found
  FROM (SELECT DISTINCT kind, say FROM things ORDER BY kind, say LIMIT 200) t;
  RETURN found;
END
$$;

-- Who stands above all groups of this server without a grant of ours, and who else may be shared.
CREATE OR REPLACE FUNCTION halligan.audit_server() RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH things(kind, say) AS (
    SELECT 'standing', format('%s can log in at any time and is a superuser', rolname) FROM pg_roles WHERE rolcanlogin AND rolsuper
    UNION ALL SELECT 'standing', format('%s can log in at any time and make roles', rolname) FROM pg_roles
      WHERE rolcanlogin AND NOT rolsuper AND rolcreaterole
    UNION ALL SELECT 'standing', format('%s can log in at any time and read everything by replication', rolname) FROM pg_roles
      WHERE rolcanlogin AND NOT rolsuper AND rolreplication
    UNION ALL SELECT 'standing', format('%s can log in at any time and is a member of %s', l.rolname, p.rolname)
      FROM pg_roles l, pg_roles p
      WHERE l.rolcanlogin AND NOT l.rolsuper AND pg_has_role(l.oid, p.oid, 'MEMBER')
        AND p.rolname IN ('pg_write_all_data', 'pg_write_server_files', 'pg_read_server_files', 'pg_execute_server_program',
                          'pg_signal_backend', 'halligan_owner')
    UNION ALL SELECT 'shared', format('%s is logged in from %s addresses now: perhaps several people share it', usename, count(DISTINCT client_addr))
      FROM pg_stat_activity WHERE client_addr IS NOT NULL AND NOT halligan.is_ours(usename) AND NOT halligan.is_prepared(usename) GROUP BY usename
      HAVING count(DISTINCT client_addr) > 1
    UNION ALL SELECT 'unexplained', format('%s is logged in from %s as %s, which no session of ours explains', usename, coalesce(host(client_addr), 'the machine itself'), quote_literal(application_name))
      FROM pg_stat_activity WHERE (halligan.is_ours(usename) OR halligan.is_prepared(usename)) AND application_name !~ '^halligan:ses_[0-9a-hjkmnp-tv-z]{26}$'
    UNION ALL SELECT 'foreign', format('the role %s has a name of ours and was not made by us', rolname) FROM pg_roles r
      WHERE (halligan.is_ours(rolname)
        AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = 'halligan_sessions'::regrole))
        OR (rolname LIKE 'halligan\_prep\_%' AND NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = 'halligan_prepared'::regrole))
  )
  SELECT coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'say', say) ORDER BY kind, say), '[]')
  FROM (SELECT DISTINCT kind, say FROM things ORDER BY kind, say LIMIT 200) t
$$;
