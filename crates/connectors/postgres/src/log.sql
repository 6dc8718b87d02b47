-- Who logged in, from the server's log: only lines about logins, and of these only those of roles of ours, of accounts that stand
-- above all groups, and of those that hold the rights of `members_of`. It belongs to who ran the set-up, since nobody else may
-- read the log, and gives nothing else of it. Reads at most 1 MiB from `place` of `file` on; without `file` says where the log ends.
CREATE OR REPLACE FUNCTION halligan.logins(file text, place bigint, members_of text[]) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  most CONSTANT bigint := 1048576;
  current text := pg_current_logfile('csvlog');
  form text := 'csv';
  folder text;
  size bigint;
  piece text;
  cut bigint;
  next text;
  lost boolean := false;
  found jsonb := '[]';
BEGIN
  IF current_setting('server_version_num')::int >= 150000 AND pg_current_logfile('jsonlog') IS NOT NULL THEN
    current := pg_current_logfile('jsonlog');
    form := 'json';
  ELSIF current IS NULL THEN
    current := pg_current_logfile('stderr');
    form := 'text';
  END IF;
  IF current IS NULL THEN
    RAISE EXCEPTION 'the server writes no log of its own (logging_collector)' USING ERRCODE = '55000';
  END IF;
  folder := regexp_replace(current, '[^/]*$', '');
  IF file IS NULL THEN
    SELECT s.size INTO size FROM pg_stat_file(current) s;
    RETURN jsonb_build_object('file', current, 'place', size, 'logged', current_setting('log_connections'), 'more', false,
                              'lost', false, 'logins', found);
  END IF;
  IF file <> folder || regexp_replace(file, '^.*/', '') THEN
    RAISE EXCEPTION '% is no file of the log', quote_literal(file) USING ERRCODE = '42501';
  END IF;
  SELECT l.size INTO size FROM pg_ls_logdir() l WHERE folder || l.name = file;
  IF size IS NULL OR size < place OR place < 0 THEN
    RETURN jsonb_build_object('file', current, 'place', 0, 'logged', current_setting('log_connections'), 'more', true,
                              'lost', true, 'logins', found);
  END IF;
  IF size > place THEN
    BEGIN
      piece := convert_from(pg_read_binary_file(file, place, most), 'LATIN1');
      cut := length(piece) - strpos(reverse(piece), E'\n') + 1;
      IF strpos(piece, E'\n') = 0 THEN
        -- A line that is longer than all that is read is none about a login.
        cut := CASE WHEN length(piece) >= most THEN length(piece) ELSE 0 END;
      END IF;
      piece := left(piece, cut::int);
    EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
      cut := least(most, size - place);
      piece := '';
      lost := true;
    END;
  ELSE
    cut := 0;
    piece := '';
  END IF;
  WITH lines AS (
    SELECT line FROM regexp_split_to_table(piece, E'\n') line WHERE line LIKE '%connection %'
  ), received AS (
    SELECT substring(line from '\[([0-9]+)\]') AS pid, max(substring(line from 'connection received: host=([^ ]*)')) AS host
    FROM lines WHERE form = 'text' AND line NOT LIKE E'\t%' AND line ~ 'connection received: host=' GROUP BY 1
  ), authorized AS (
    SELECT j->>'user' AS who, coalesce(j->>'remote_host', '[local]') AS host, j->>'message' AS message
      FROM (SELECT line::jsonb AS j FROM lines WHERE form = 'json' AND line LIKE '%"message":"%connection authorized: user=%') x
    UNION ALL
    SELECT replace(m[1], '""', '"'), regexp_replace(m[2], ':[0-9]+$', ''), m[3]
      FROM lines, regexp_matches(line, '^[0-9][^,]*,"((?:[^"]|"")*)",(?:"(?:[^"]|"")*")?,[0-9]+,"([^"]*)",.*,LOG,00000,"((?:replication )?connection authorized: [^"]*)') m
      WHERE form = 'csv'
    UNION ALL
    SELECT substring(line from 'connection authorized: user=([^ ]*)'),
           (SELECT host FROM received r WHERE r.pid = substring(line from '\[([0-9]+)\]')),
           substring(line from '(?:replication )?connection authorized: .*$')
      FROM lines WHERE form = 'text' AND line NOT LIKE E'\t%' AND line ~ 'connection authorized: user='
  ), judged AS (
    SELECT a.who, a.host, substring(a.message from ' application_name=([^ ]*)') AS application,
      CASE WHEN a.who ~ '^halligan_(grt|prep)_' THEN 'ours'
           WHEN r.rolsuper THEN 'superuser'
           WHEN r.rolcreaterole OR r.rolreplication OR EXISTS (SELECT FROM pg_roles p WHERE p.rolname IN ('pg_write_all_data',
                'pg_write_server_files', 'pg_read_server_files', 'pg_execute_server_program') AND pg_has_role(r.oid, p.oid, 'MEMBER')) THEN 'privileged'
           WHEN EXISTS (SELECT FROM pg_roles g WHERE g.rolname = ANY (members_of) AND pg_has_role(r.oid, g.oid, 'MEMBER')) THEN 'member'
      END AS kind
    FROM authorized a LEFT JOIN pg_roles r ON r.rolname = a.who WHERE a.who IS DISTINCT FROM @CONNECTOR@
  )
  SELECT coalesce(jsonb_agg(to_jsonb(t)), '[]') INTO found FROM (
    SELECT who AS user, host AS from, kind, CASE WHEN kind = 'ours' THEN application END AS application, count(*) AS times
    FROM judged WHERE kind IS NOT NULL GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC LIMIT 200) t;
  IF place + cut >= size AND file <> current THEN
    -- The next older than now, if several were begun meanwhile.
    SELECT folder || l.name INTO next FROM pg_ls_logdir() l, pg_ls_logdir() this
      WHERE folder || this.name = file AND l.modification >= this.modification AND folder || l.name <> file
        AND regexp_replace(l.name, '^.*\.', '') = regexp_replace(this.name, '^.*\.', '')
      ORDER BY l.modification, l.name LIMIT 1;
    RETURN jsonb_build_object('file', coalesce(next, current), 'place', 0, 'logged', current_setting('log_connections'),
                              'more', true, 'lost', lost, 'logins', found);
  END IF;
  RETURN jsonb_build_object('file', file, 'place', place + cut, 'logged', current_setting('log_connections'),
                            'more', cut > 0 AND place + cut < size, 'lost', lost, 'logins', found);
END
$$;

