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
