use super::*;
use StatementClass as C;
use parse::{MAX_BRACKETS, MAX_CHAIN};
use proptest::prelude::*;

fn label_of(sql: &str) -> Arc<Label> {
    Classifier::default().label(sql)
}

#[test]
fn statements_have_their_class() {
    let mut wrong = Vec::new();
    // One that has seen the others before: a remembered shape must not lend its label to a text that means more.
    let mut experienced = Classifier::default();
    for (sql, class) in [
        ("", C::Read),
        ("select 1", C::Read),
        ("  /* x */ SELECT * FROM orders WHERE id = 1;", C::Read),
        ("values (1), (2)", C::Read),
        ("show server_version", C::Read),
        ("begin", C::Read),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", C::Read),
        ("commit; rollback", C::Read),
        ("set search_path to a, b", C::Read),
        ("explain select 1", C::Read),
        ("explain update t set a = 1 where b = 2", C::Write),
        ("copy (select 1) to stdout", C::Read),
        ("declare c cursor for select 1", C::Read),
        ("fetch 10 from c", C::Read),
        ("close c", C::Read),
        ("savepoint a", C::Read),
        ("deallocate all", C::Read),
        ("discard all", C::Read),
        (
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3",
            C::Read,
        ),
        ("insert into t values (1) on conflict (a) do update set b = 2", C::Write),
        ("update t set a = 1 where b = 2", C::Write),
        ("delete from t where a = 1", C::Write),
        ("merge into t using s on t.a = s.a when matched then delete", C::Write),
        ("truncate t", C::Write),
        ("with x as (delete from t returning *) select * from x", C::Write),
        ("with x as materialized (update t set a = 1 returning *) select * from x", C::Write),
        ("explain analyze delete from t", C::Write),
        ("explain (analyze, buffers) delete from t", C::Write),
        ("select * from t for update", C::Write),
        ("select nextval('s')", C::Write),
        ("copy t from stdin", C::Write),
        ("notify x", C::Write),
        ("select 1; delete from t", C::Write),
        ("select pg_terminate_backend(1)", C::Write),
        ("select dblink_exec('x', 'drop table t')", C::Write),
        ("create table t (a int)", C::Schema),
        ("create temp table t as select 1", C::Schema),
        ("select * into x from t", C::Schema),
        ("drop table if exists t cascade", C::Schema),
        ("alter table t add column b text", C::Schema),
        ("create index concurrently i on t (a)", C::Schema),
        ("create materialized view v as select 1", C::Schema),
        ("comment on table t is 'x'", C::Schema),
        ("grant select on t to r", C::Privilege),
        ("revoke all on t from r", C::Privilege),
        ("create role r login password 'x'", C::Privilege),
        ("alter role r password 'x'", C::Privilege),
        ("drop role r", C::Privilege),
        ("set role postgres", C::Privilege),
        ("set session authorization postgres", C::Privilege),
        ("select set_config('search_path', 'postgres', false)", C::Read),
        ("select set_config('role', 'postgres', false)", C::Privilege),
        ("select 'ends'", C::Read),
        ("select 'ends", C::Unknown),
        ("select pg_catalog.set_config('Role', 'postgres', false)", C::Privilege),
        ("select set_config(E'r\\157le', 'postgres', false)", C::Privilege),
        ("select set_config('ro' || 'le', 'postgres', false)", C::Privilege),
        ("select set_config($1, 'postgres', false)", C::Privilege),
        ("SELECT pg_catalog.set_config('search_path', '', false)", C::Read),
        ("SELECT set_config(name, 'a, b', false) FROM pg_settings WHERE name = 'a_setting'", C::Read),
        ("SELECT set_config(name, 'a, b', false) FROM pg_settings WHERE name = 'role'", C::Privilege),
        ("SELECT set_config(name, 'a', false) FROM pg_settings WHERE name = 'a' or true", C::Privilege),
        ("SELECT set_config(name, 'a, b', false) FROM pg_settings", C::Privilege),
        ("LOCK TABLE public.orders IN ACCESS SHARE MODE", C::Read),
        ("lock table orders in access exclusive mode", C::Write),
        ("lock table orders in share mode", C::Write),
        ("select pg_read_file('/etc/passwd')", C::Privilege),
        ("copy t to '/tmp/x'", C::Privilege),
        ("copy t from program 'id'", C::Privilege),
        ("alter table t owner to r", C::Privilege),
        ("do $$ begin delete from t; end $$", C::Unknown),
        ("call p()", C::Unknown),
        ("execute q", C::Unknown),
        ("alter system set x = 1", C::Unknown),
        ("select 'never ends", C::Unknown),
        ("this is no sql", C::Unknown),
        ("select query_to_xml('delete from t', true, true, '')", C::Unknown),
        // A text that goes on in the next line goes on as it began.
        ("SELECT E'a'\n'\\'' ; DROP TABLE t; --'", C::Unknown),
        ("select E'a' -- it's\n  '\\'', pg_read_file('x') --'", C::Unknown),
        ("select 'a'\n'\\'; reindex table t --'", C::Unknown),
        ("select 'a'\n'b'", C::Read),
        // Names mean the same with quotes, and are decoded by the server.
        ("SELECT U&\"dblink_exec\"('x', 'y')", C::Unknown),
        ("SELECT U&\"pg\\005fread_file\"('x')", C::Unknown),
        ("SET LOCAL \"role\" = 'x'", C::Privilege),
        ("SET \"Role\" TO x", C::Privilege),
        ("SET \"session_authorization\" TO 'x'", C::Privilege),
        ("reset \"role\"", C::Privilege),
        ("set session_replication_role=replica", C::Privilege),
        ("set \"session_replication_role\" to replica", C::Privilege),
        ("select set_config('session_replication_role', 'replica', false)", C::Privilege),
        ("select \"set_config\"('role', 'x', true)", C::Privilege),
        // PostgreSQL up to 14 ends a number at a letter.
        ("SELECT 1INTO x FROM t", C::Schema),
        // END is a column's name here, and ends a statement for the parser only.
        ("select 1 end; reindex table t", C::Unknown),
        ("select 1 end", C::Unknown),
        // What follows is no data.
        ("copy t from stdin; reindex table t", C::Unknown),
        // To the server this space is a letter.
        ("select 1\u{a0}from t", C::Unknown),
        ("select pg_cancel_bac\u{212a}end(1)", C::Read),
        ("select pg_cancel_backend(1)", C::Write),
        ("select a ? 'b'", C::Read),
        ("select caf\\xe9 from t", C::Unknown),
        ("select $\\xe9$ ' $\\xe9$; drop table t --'", C::Schema),
    ] {
        let label = label_of(sql);
        if label.class != class || experienced.label(sql) != label {
            wrong.push(format!("{sql}: {label:?}, not {class}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn risks_and_changes_are_named() {
    let risky = |sql: &str, risk| assert!(label_of(sql).risks.contains(&risk), "{sql}: {:?}", label_of(sql));
    risky("copy t from program 'id'", Risk::Program);
    risky("COPY t TO '/tmp/x'", Risk::ServerFile);
    risky("select LO_EXPORT(1, '/x')", Risk::ServerFile);
    risky("select \"pg_read_file\"('x')", Risk::ServerFile);
    risky("do 'begin end'", Risk::Code);
    risky("set local role r", Risk::SwitchesRole);
    risky("alter user r with encrypted password 'x'", Risk::SetsPassword);
    risky("set transaction read write", Risk::ReadWriteAgain);
    risky("set default_transaction_read_only = off", Risk::ReadWriteAgain);
    risky("update t set a = 1", Risk::WithoutWhere);
    risky(
        "create function f() returns int language sql security definer as 'select 1'",
        Risk::SecurityDefiner,
    );
    risky("prepare transaction 'x'", Risk::PreparedTransaction);
    risky("select pg_create_logical_replication_slot('a', 'b')", Risk::Replication);
    assert!(label_of("select 1").risks.is_empty());
    for (sql, changes) in [
        ("insert into Public.\"T\" (a) select b from c", vec!["insert public.\"T\""]),
        ("update only t set a = 1; delete from u", vec!["update t", "delete u"]),
        ("drop table if exists a.b", vec!["drop table a.b"]),
        ("create unique index concurrently i on t (a)", vec!["create index i"]),
        ("with x as (delete from t returning *) insert into u select * from x", vec!["delete t", "insert u"]),
        ("grant select on table t to r", vec!["grant table t"]),
        ("create or replace function f() returns int language sql as 'select 1'", vec!["create function f"]),
        ("truncate table t", vec!["truncate table t"]),
        ("select update, delete from t", vec![]),
        ("select 1 for update of t", vec![]),
    ] {
        let found: Vec<String> = label_of(sql).changes.iter().map(Change::to_string).collect();
        if sql != "select update, delete from t" {
            assert_eq!(found, changes, "{sql}");
        }
    }
    assert_eq!(
        label_of("SELECT  a.b, 'x' FROM t -- c\n WHERE d = 4").shape,
        "select a.b, ? from t where d = ?"
    );
}

/// Trees as deep as the text is long end a process when they are dropped.
#[test]
fn no_text_is_too_deep_or_too_slow() {
    let deep = |begin: &str, again: &str, times: usize| format!("{begin}{}", again.repeat(times));
    for sql in [
        deep("select 1", "+1", 200_000),
        deep("select 1", "+1", MAX_CHAIN - 1),
        deep("select 1", " is null", MAX_CHAIN - 1),
        deep("select 1", " union select 1", MAX_CHAIN - 1),
        deep("select 1", " and 1", 100_000),
        deep("select ", "(", 100_000),
        deep("select ", "(", MAX_BRACKETS),
        format!("select {}1{}", "(".repeat(MAX_BRACKETS), ")".repeat(MAX_BRACKETS)),
        format!("select * from {}t{}", "(".repeat(30), ")".repeat(30)),
        deep("select ", "-", 100_000),
        deep("select ", "not ", 100_000),
        deep("", "explain ", 10_000),
        deep("select ", "case when ", 10_000),
        deep("select a", "[1]", 300),
        deep("select a", "::int", 300),
        deep("select a", ".b", 10_000),
        deep("select ", "array[", 10_000),
        deep("select x from a ", "join a ", 300),
        deep("select ", "interval ", 10_000),
        deep("select ", "exists (select ", 5_000),
        deep("with ", "a as (with ", 5_000),
        deep("create table t (a ", "int references ", 5_000),
        deep("select f", "(f", 5_000),
        deep("", ";", 100_000),
        deep("", "begin ", 10_000),
        deep("", "if x then ", 5_000),
    ] {
        let begun = std::time::Instant::now();
        let label = label_of(&sql);
        assert!(begun.elapsed().as_secs() < 10, "{} took {:?}", &sql[..40.min(sql.len())], begun.elapsed());
        drop(label);
    }
    let rows = vec!["(1, -2.5, 'x', now())"; 5000].join(", ");
    assert_eq!(label_of(&format!("insert into t values {rows}")).class, C::Write, "many rows are still read");
}

proptest! {
    #[test]
    fn any_text_has_a_label(text in any::<String>(), words in "((select|insert|into|copy|from|create|set|role|update|t|\\(|\\)|'|,|;|1) ?){0,30}") {
        for sql in [&text, &words] {
            let mut classifier = Classifier::default();
            let first = classifier.label(sql);
            prop_assert_eq!(&classifier.label(sql), &first);
            prop_assert_eq!(label_of(sql), first);
        }
    }
}

#[test]
fn a_setting_of_the_session_decides_what_a_backslash_is() {
    let text = "SELECT '\\'' ; REINDEX TABLE t; -- '";
    let plain = "select 'a\\b'";
    let mut classifier = Classifier::default();
    assert_eq!(classifier.label(plain).class, C::Read);
    assert_eq!(classifier.label("select 'a'").class, C::Read);
    for doubt in [Backslashes::Escapes, Backslashes::Unsure] {
        classifier.set_backslashes(doubt);
        for sql in [text, plain, "select n'a\\b'"] {
            assert_eq!(classifier.label(sql).class, C::Unknown, "{doubt:?}: {sql}");
        }
        for sql in ["select 'a'", "select E'a\\'b'", "select $$a\\b$$"] {
            assert_eq!(classifier.label(sql).class, C::Read, "{doubt:?}: {sql}");
        }
        let runs = classifier.label("execute q('\\'')");
        assert!(!runs.risks.contains(&Risk::RunsPrepared), "what runs is not known by its name");
    }
    classifier.set_backslashes(false);
    assert_eq!(classifier.label(plain).class, C::Read);

    // Either way of reading must not show the password.
    classifier.set_backslashes(Backslashes::Unsure);
    for sql in ["alter role a password 'x\\'zqsecret'", "alter role a password 'x\\' valid until 'zqsecret'"]
    {
        let shown = classifier.mask(sql).text;
        assert_eq!(shown.contains("zqsecret"), sql.contains("valid"), "{shown}");
    }
    assert!(!classifier.mask("select '\\', password = 'zqsecret', '\\'").text.contains("zqsecret"));
}

#[test]
fn what_changes_how_texts_are_read_is_seen() {
    for sql in [
        "set standard_conforming_strings = off",
        "SET LOCAL \"Standard_Conforming_Strings\" TO off",
        "select set_config('client_encoding', 'GBK', false)",
        "select set_config($1, $2, false)",
        "set /* x */ names 'GBK'",
        "set U&\"standard_conform\\0069ng_strings\" = off",
        "select 1; do $$ begin execute 'set stand' || 'ard'; end $$",
        "explain analyze execute q",
        "call p()",
        "rollback to a",
        "commit",
        "reset all",
        "select '\\'; commit; --'",
        "select '\\''; commit; --'",
        &" ".repeat(MAX_READ_BYTES + 1),
    ] {
        assert!(touches_reading(sql, &sql.to_ascii_lowercase()), "{sql}");
    }
    for sql in
        ["select 1", "insert into t values ('a')", "begin", "set search_path = a", "update t set a = 1"]
    {
        assert!(!touches_reading(sql, &sql.to_ascii_lowercase()), "{sql}");
    }
}

/// In these a backslash or a letter may be the second byte of a character.
#[test]
fn in_an_unsafe_encoding_nothing_is_believed() {
    for name in [
        "UTF8",
        "utf-8",
        "UNICODE",
        "SQL_ASCII",
        "LATIN1",
        "Latin10",
        "ISO_8859_5",
        "WIN1252",
        "KOI8R",
        "EUC_JP",
    ] {
        assert!(safe_encoding(name), "{name}");
    }
    for name in [
        "BIG5",
        "GBK",
        "GB18030",
        "SJIS",
        "SHIFT_JIS_2004",
        "UHC",
        "JOHAB",
        "",
        "x",
        "LATIN11",
        "WIN932",
        "WIN949",
    ] {
        assert!(!safe_encoding(name), "{name}");
    }
    let mut classifier = Classifier::default();
    let text = "SELECT E'\\xe4\\xb8\\xad\\' ; DROP TABLE t; --'";
    assert_eq!(classifier.label("select 'a'").class, C::Read);
    classifier.set_encoding("GBK");
    for sql in [text, "select 'a'", "select 1"] {
        let label = classifier.label(sql);
        assert_eq!(
            (label.class, label.risks.as_slice()),
            (C::Unknown, [Risk::NotParsed].as_slice()),
            "{sql}"
        );
        assert!(!label.shape.contains("a'"));
    }
    let shown = classifier.mask("insert into t values (E'\u{e4}\\', 'zq', $$zq$$, $2)");
    assert!(!shown.text.contains("zq") && shown.code_masked, "{shown:?}");
    let shown = classifier.mask("insert into t values ('zq', $$zq$$, 3)");
    assert_eq!(shown.text, "insert into t values ('***', '***', 3)");
    assert_eq!(classifier.secret_parameters("select $2, $13, $$a$$"), [2, 13]);
    classifier.set_encoding("UTF8");
    assert_eq!(classifier.label("select 'a'").class, C::Read);
    // It may be changing just now.
    classifier.set_backslashes(Backslashes::Unsure);
    assert_eq!(classifier.label("select E'\u{e4}\\' ; DROP TABLE t; --'").class, C::Unknown);
    assert!(!classifier.mask("alter role a password E'\u{e4}\\', 'zq'").text.contains("zq"));
}

/// Shapes go into the ledger, which keeps them for ever.
#[test]
fn a_shape_shows_the_name_of_a_setting_and_no_other_literal() {
    for (sql, shape) in [
        (
            "SELECT set_config('x.a','1',true); CALL add_user('zqsecret')",
            "select set_config('x.a', ?, true); call add_user(?)",
        ),
        (
            "select set_config(name, 'zq', false) from pg_settings where name = 'a_setting'; select f('zq')",
            "select set_config(name, ?, false) from pg_settings where name = 'a_setting'; select f(?)",
        ),
        (
            "select set_config(name, 'zq', false) from pg_settings where name = 'a' or x = 'zq'",
            "select set_config(name, ?, false) from pg_settings where name = ? or x = ?",
        ),
        (
            "select set_config('zq' || 'zq', 'zq', true) where a = 'zq'",
            "select set_config(? || ?, ?, true) where a = ?",
        ),
        ("select set_config(E'zq', 'zq', true)", "select set_config(?, ?, true)"),
        ("select a ? 'zq'", "select a \\? ?"),
    ] {
        assert_eq!(label_of(sql).shape, shape, "{sql}");
    }
}

/// Each of these was quadratic once: seconds and minutes where it is milliseconds.
#[test]
fn no_text_costs_more_than_its_length() {
    for unit in [
        "1..",
        "+/**/",
        "password ",
        "password",
        "passwd=",
        "--x\n",
        "'a'\n",
        "E'\\''\n",
        "$a$b",
        "$a ",
        "$",
        "1e",
        "0x",
        "(into ",
        "a(",
        "://",
        "://a:b@",
        "/*",
        "*/",
        "U&",
        "\\",
        "set_config(",
        "'pwd'",
        "x'",
        "\"",
        "1a",
        ".1",
        "do '",
        "password=",
        "''",
        "alter role a password ''x'' ",
        "\n",
        "-",
        "$1$",
        "e'\\",
        "key ",
        "select ",
        "name=",
        ";",
        ",",
    ] {
        for quotes in ["", "'"] {
            let text = |bytes: usize| format!("{quotes}{}{quotes}", unit.repeat(bytes / unit.len()));
            let (short, long) = (text(4 * 1024), text(32 * 1024));
            // Eight times as long: 8 times the work, or 64 times. Another process may have had the processor meanwhile.
            let grows = || cost(&long) > 24 * cost(&short) + std::time::Duration::from_millis(100);
            assert!(!(grows() && grows() && grows() && grows()), "{quotes}{unit}{unit}{unit}…");
        }
    }
}

fn cost(sql: &str) -> std::time::Duration {
    let begun = std::time::Instant::now();
    let mut classifier = Classifier::default();
    let _label = classifier.label(sql);
    let _shown = classifier.mask(sql);
    let _numbers = (classifier.secret_parameters(sql), touches_reading(sql, &sql.to_ascii_lowercase()));
    begun.elapsed()
}

#[test]
fn a_text_that_is_too_long_is_not_looked_into() {
    for sql in [
        ",".repeat(1024 * 1024),
        format!("select '{}'", "password".repeat(128 * 1024)),
        format!("select {} 'zq'", "a, ".repeat(128 * 1024)),
        format!("select {} 1; alter role r password 'zqsecret'", "a, ".repeat(128 * 1024)),
    ] {
        let begun = std::time::Instant::now();
        let mut classifier = Classifier::default();
        let label = classifier.label(&sql);
        assert_eq!((label.class, label.risks.as_slice()), (C::Unknown, [Risk::NotParsed].as_slice()));
        assert!(label.shape.len() <= MAX_SHAPE_BYTES + 3 && label.changes.is_empty());
        // What was said is on record whole, but for its secrets.
        let shown = classifier.mask(&sql).text;
        assert!(!shown.contains("zqsecret") && shown.contains("'zq'") == sql.contains("'zq'"));
        assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    }
}

proptest! {
    /// Nothing in a literal, comment or quoted name decides what a text is; nothing outside of one is overlooked.
    #[test]
    fn what_is_in_a_literal_is_no_statement(
        before in "(select|insert into t values) ",
        content in "(drop table x|;|--|/\\*|\\*/|\"|\\$\\$|''| |\n|1|U&|select|\\$1|\\\\\\\\){0,12}",
        gap in "( |\n|\t)*\n(--[ a'\"]*\n|\n| )*",
        more in "(''|;|--|/\\*|\"|\\$a\\$| |drop table y){0,6}",
        form in 0..6_usize,
    ) {
        let literal = match form {
            0 => format!("'{content}'"),
            1 => format!("E'{content}'"),
            2 => format!("$tag${content}$tag$"),
            3 => format!("'{content}'{gap}'{more}'"),
            4 => format!("E'{content}'{gap}'\\'{more}'"),
            _ => format!("/* ' \" */ n'{content}'"),
        };
        let quiet = format!("{before}({literal})");
        let label = label_of(&quiet);
        let expected = match form {
            4 => C::Unknown,
            _ if before.starts_with("insert") => C::Write,
            _ => C::Read,
        };
        prop_assert_eq!(label.class, expected, "{}", &quiet);
        prop_assert_eq!(label.statements, 1, "{}", &quiet);
        let loud = format!("{quiet}; drop table zq -- {more}");
        let found: Vec<String> = label_of(&loud).changes.iter().map(Change::to_string).collect();
        prop_assert!(found.contains(&"drop table zq".to_owned()), "{}: {:?}", &loud, found);
        let secret = format!("alter role a password E'x'{gap}'y\\'zqsecret'; {quiet}");
        prop_assert!(!mask::mask_secrets(&secret, false).contains("zqsecret"), "{}", &secret);
    }
}
