use bytes::{BufMut as _, BytesMut};

use super::*;
use crate::codec::{
    Bind, CopyFormat, FromClientMessage as C, FromServerMessage as S, NotKept, ServerMessage, Target,
};

fn audit(kept: Kept) -> Audit {
    Audit::new(AuditConfig {
        channel: 7,
        role: "operate".into(),
        database: "orders".into(),
        parameters: true,
        kept,
        keep_bytes: 1000,
    })
}

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn query(sql: &str) -> C {
    C::Query { sql: b(sql) }
}

fn parse(name: &str, sql: &str) -> C {
    C::Parse { name: b(name), sql: b(sql), types: vec![23] }
}

fn bind(portal: &str, statement: &str, value: &str) -> C {
    C::Bind(Bind {
        portal: b(portal),
        statement: b(statement),
        parameter_formats: vec![],
        parameters: vec![Some(b(value))],
        result_formats: vec![],
    })
}

fn execute(portal: &str) -> C {
    C::Execute { portal: b(portal), max_rows: 0 }
}

fn tag(tag: &str) -> S {
    S::CommandComplete { tag: b(tag) }
}

fn error(text: &str) -> S {
    S::Error(ServerMessage {
        severity: "ERROR".into(),
        code: "42P01".into(),
        message: text.into(),
        ..Default::default()
    })
}

const READY: S = S::ReadyForQuery(TransactionStatus::Idle);
const OPEN: S = S::ReadyForQuery(TransactionStatus::Open);

impl Audit {
    fn clients(&mut self, messages: &[C]) {
        for message in messages {
            let runs = self.runs(message);
            self.client(message, runs, 10).unwrap();
        }
    }

    fn servers(&mut self, messages: &[S]) {
        messages.iter().for_each(|message| self.server(message, 25));
    }

    /// Records as short lines.
    fn lines(&mut self) -> Vec<String> {
        let line = |kind| match kind {
            RecordKind::StatementBegin { number, class, text, parameters, .. } => {
                format!("#{number} {class} {text} {}", parameters.unwrap_or_default()).trim_end().to_owned()
            }
            RecordKind::StatementEnd { number, outcome, tag, rows, duration_micros, .. } => {
                assert!(duration_micros == 15 || duration_micros == 0);
                let rows = rows.map_or(String::new(), |rows| format!(" {rows}"));
                format!("#{number} {outcome} [{tag}]{rows}")
            }
            RecordKind::Notice { severity, text, .. } => format!("{severity} {text}"),
            RecordKind::TransferBegin { path, direction, .. } => format!("{} {path}", direction.word()),
            RecordKind::TransferEnd { path, bytes, sha256, outcome, .. } => {
                let hash = if bytes == 0 { String::new() } else { format!(" {}", &sha256.to_string()[..8]) };
                format!("end {path} {bytes}{hash} {outcome}")
            }
            RecordKind::Result { number, rows, columns, values, .. } => {
                format!("#{number} {rows} rows {columns} {values}")
            }
            other => format!("{other:?}"),
        };
        self.records().map(line).collect()
    }
}

#[test]
fn a_simple_query_has_its_tags_its_rows_and_its_time() {
    let mut audit = audit(Kept::None);
    audit.clients(&[query("begin; insert into t values ('x'); alter role r password 'zq'")]);
    assert_eq!(
        audit.lines(),
        ["#1 privilege begin; insert into t values ('x'); alter role r password '***'"]
    );
    assert!(!audit.is_idle());
    audit.servers(&[tag("BEGIN"), tag("INSERT 0 2"), tag("ALTER ROLE"), OPEN]);
    assert_eq!(audit.lines(), ["#1 done [BEGIN; INSERT 0 2; ALTER ROLE] 2"]);
    assert_eq!(audit.transaction(), TransactionStatus::Open);
    assert!(audit.is_idle() && audit.changes().is_empty(), "not through yet");
    audit.clients(&[query("commit")]);
    audit.servers(&[tag("COMMIT"), READY]);
    let what: Vec<_> = audit.changes().into_iter().map(|changed| changed.what).collect();
    assert_eq!(what, ["insert t", "alter role r"]);
}

#[test]
fn what_is_rolled_back_has_not_changed() {
    let mut audit = audit(Kept::None);
    audit.clients(&[
        query("delete from t where a = 1"),
        query("rollback"),
        query("update u set a = 1 where b = 2"),
    ]);
    audit.servers(&[tag("DELETE 5"), OPEN, tag("ROLLBACK"), READY, tag("UPDATE 3"), READY]);
    assert_eq!(
        audit.changes(),
        [Changed { what: "update u".into(), rows: Some(3), statements: 1, first: 3 }]
    );
}

#[test]
fn a_pipeline_is_paired_and_an_error_skips_to_the_sync() {
    let mut audit = audit(Kept::None);
    audit.clients(&[
        parse("", "select $1"),
        bind("", "", "1"),
        execute(""),
        parse("", "select x, $1"),
        bind("", "", "2"),
        execute(""),
        bind("", "", "3"),
        execute(""),
        C::Sync,
        bind("", "", "4"),
        execute(""),
        C::Sync,
    ]);
    assert_eq!(
        audit.lines(),
        [
            "#1 read select $1 [1]",
            "#2 read select x, $1 [2]",
            "#3 read select x, $1 [3]",
            "#4 read select x, $1 [4]"
        ]
    );
    audit.servers(&[S::ParseComplete, S::BindComplete, tag("SELECT 1"), error("no x"), READY]);
    assert_eq!(
        audit.lines(),
        [
            "#1 done [SELECT 1] 1",
            "#2 failed: 42P01: no x []",
            "#3 failed: not run: what came before it failed []",
        ]
    );
    audit.servers(&[S::BindComplete, tag("SELECT 1"), READY]);
    assert_eq!(audit.lines(), ["#4 done [SELECT 1] 1"]);
    assert!(audit.is_idle());
}

#[test]
fn what_the_server_skips_is_said_to_be_skipped_and_changes_no_name() {
    let mut audit = audit(Kept::None);
    audit.clients(&[parse("a", "select 1 + $1"), C::Sync]);
    audit.servers(&[S::ParseComplete, READY]);
    audit.clients(&[parse("a", "select 2 + $1")]);
    audit.servers(&[error("a exists")]);
    assert_eq!(audit.lines(), ["ERROR a exists"]);
    // Sent before the client knew: all skipped, the Query too.
    audit.clients(&[
        bind("", "b", "1"),
        execute(""),
        query("drop table t"),
        C::Close(Target::Statement(b("a"))),
        C::Sync,
    ]);
    let lines = audit.lines();
    assert_eq!(lines.len(), 4);
    assert!(lines[1].contains("not run") && lines[3].contains("not run"), "{lines:?}");
    audit.servers(&[READY]);
    audit.clients(&[bind("", "a", "7"), execute(""), C::Sync]);
    assert_eq!(audit.lines(), ["#3 read select 1 + $1 [7]"]);
    audit.servers(&[S::BindComplete, tag("SELECT 1"), READY]);
    assert_eq!(audit.lines(), ["#3 done [SELECT 1] 1"]);
}

#[test]
fn types_that_only_the_server_knows_make_binary_values_readable() {
    let mut audit = audit(Kept::None);
    audit.clients(&[
        C::Parse { name: b("s"), sql: b("select $1"), types: vec![] },
        C::Describe(Target::Statement(b("s"))),
        C::Sync,
    ]);
    audit.servers(&[S::ParseComplete, S::ParameterDescription { types: vec![20] }, READY]);
    let value = Some(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 9]));
    let numbers = Bind {
        portal: b(""),
        statement: b("s"),
        parameter_formats: vec![1],
        parameters: vec![value],
        result_formats: vec![],
    };
    audit.clients(&[C::Bind(numbers), execute(""), C::Sync]);
    assert_eq!(audit.lines(), ["#1 read select $1 [9]"]);
}

#[test]
fn a_copy_is_counted_and_hashed_and_swallows_the_sync_before_its_data() {
    let mut audit = audit(Kept::None);
    // As libpq does it in extended mode: Sync at once, data, CopyDone, Sync.
    audit.clients(&[C::Parse { name: b(""), sql: b("copy public.t from stdin"), types: vec![] }]);
    audit.clients(&[bind("", "", "1"), execute(""), C::Sync]);
    audit.servers(&[S::ParseComplete, S::BindComplete, S::CopyIn(CopyFormat::Text)]);
    audit.from_client().copy(b"a");
    audit.from_client().copy(b"bc");
    audit.clients(&[C::CopyDone, C::Sync, query("select 1")]);
    audit.servers(&[tag("COPY 1"), READY]);
    assert_eq!(
        audit.lines(),
        [
            "#1 write copy public.t from stdin [\"1\"]".to_owned(),
            "upload COPY public.t".into(),
            "#2 read select 1".into(),
            "end COPY public.t 3 ba7816bf done".into(),
            "#1 done [COPY 1] 1".into(),
        ]
    );
    audit.servers(&[tag("SELECT 1"), READY]);
    assert_eq!(audit.lines(), ["#2 done [SELECT 1] 1"]);

    // Data sent blindly, before the server's word; then a COPY that fails; the pairing stays right.
    audit.clients(&[query("copy t from stdin")]);
    audit.from_client().copy(b"abc");
    audit.clients(&[C::CopyDone]);
    audit.servers(&[S::CopyIn(CopyFormat::Text), error("bad"), READY]);
    assert_eq!(
        audit.lines(),
        [
            "#3 write copy t from stdin",
            "upload COPY t",
            "end COPY t 3 ba7816bf failed: 42P01: bad",
            "#3 failed: 42P01: bad []",
        ]
    );
    audit.clients(&[query("copy (select 1) to stdout")]);
    audit.servers(&[S::CopyOut(CopyFormat::Text)]);
    audit.from_server().copy(b"abc");
    audit.servers(&[S::CopyDone, tag("COPY 1"), READY]);
    assert_eq!(audit.lines()[2..], ["end COPY (query) 3 ba7816bf done", "#4 done [COPY 1] 1"]);
    assert!(audit.is_idle());
}

#[test]
fn names_are_forgotten_replaced_and_found_across_both_ways_of_preparing() {
    let mut audit = audit(Kept::None);
    audit.clients(&[query("prepare q (int) as delete from t where a = $1")]);
    audit.servers(&[tag("PREPARE"), READY]);
    audit.clients(&[query("execute q(1)"), query("deallocate all"), query("execute q(1)")]);
    let lines = audit.lines();
    assert_eq!(lines[2], "#2 write execute q(1)");
    audit.servers(&[tag("DELETE 1"), READY, tag("DEALLOCATE ALL"), READY, error("no q"), READY]);
    audit.lines();
    audit.clients(&[query("discard all")]);
    audit.servers(&[tag("DISCARD ALL"), READY]);
    audit.lines();
    audit.clients(&[query("execute q(1)"), bind("p", "nowhere", "1"), execute("p")]);
    let lines = audit.lines();
    assert_eq!(lines[0], "#6 unknown execute q(1)");
    assert!(
        lines[1].starts_with("#7 unknown -- a prepared statement that is not known: nowhere"),
        "{lines:?}"
    );
}

#[test]
fn a_refused_statement_and_a_lost_connection_are_on_record() {
    let mut audit = audit(Kept::None);
    let runs = audit.runs(&query("drop table t")).unwrap();
    assert_eq!(runs.class(), StatementClass::Schema);
    audit.refused(&query("drop table t"), runs, "schema changes are not allowed", 10);
    audit.servers(&[S::Error(ServerMessage::default()), S::ReadyForQuery(TransactionStatus::Idle)]);
    assert_eq!(audit.lines(), ["#1 schema drop table t", "#1 refused: schema changes are not allowed []"]);
    audit.clients(&[query("select 1")]);
    assert_eq!(audit.running(), Some(2));
    audit.servers(&[S::Notice(ServerMessage {
        severity: "NOTICE".into(),
        message: "hi".into(),
        ..Default::default()
    })]);
    audit.finish("the session ended", 25);
    assert_eq!(audit.lines(), ["#2 read select 1", "NOTICE hi", "#2 failed: the session ended []"]);
}

#[test]
fn a_huge_statement_is_recorded_whole_in_records_that_fit() {
    let mut audit = audit(Kept::None);
    let sql = format!("select '{}'", "x".repeat(3 * MAX_TEXT_BYTES));
    audit.clients(&[query(&sql)]);
    let mut text = String::new();
    for kind in audit.records() {
        let mut out = Vec::new();
        halligan_recording::Record::new(0, kind.clone()).encode(&mut out).unwrap();
        match kind {
            RecordKind::StatementBegin { text: begin, .. } => {
                text.push_str(begin.split('\u{2026}').next().unwrap())
            }
            RecordKind::Content { bytes, .. } => text.push_str(std::str::from_utf8(&bytes).unwrap()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(text, sql);
}

#[test]
fn what_is_remembered_has_a_bound() {
    let mut audit = audit(Kept::None);
    let long = "x".repeat(1 << 20);
    let error = (0..200).find_map(|number| {
        let message = parse(&format!("s{number}"), &format!("select '{long}'"));
        audit.client(&message, None, 0).err()
    });
    assert!(error.is_some());
    let mut audit = self::audit(Kept::None);
    (0..MAX_WAITING).for_each(|_| audit.client(&C::Sync, None, 0).unwrap());
    assert!(audit.is_full());
    let _ = NotKept;
}

fn error_of(code: &str, text: &str) -> S {
    S::Error(ServerMessage {
        severity: "ERROR".into(),
        code: code.into(),
        message: text.into(),
        ..Default::default()
    })
}

#[test]
fn what_is_bound_is_on_record_and_judged_before_it_is_planned() {
    let mut audit = audit(Kept::None);
    audit.clients(&[parse("", "delete from t where a = $1")]);
    let message = bind("", "", "1");
    let runs = audit.runs(&message).unwrap();
    assert!(runs.class() == StatementClass::Write && !runs.judged);
    audit.client(&message, Some(runs), 10).unwrap();
    assert_eq!(audit.lines(), ["#1 write delete from t where a = $1 [1]"]);
    assert_eq!(audit.running(), Some(1), "planning can be cancelled");
    // Executed: one statement, judged already.
    assert!(audit.runs(&execute("")).unwrap().judged);
    audit.clients(&[execute(""), C::Sync]);
    audit.servers(&[S::ParseComplete, S::BindComplete, tag("DELETE 1"), READY]);
    assert_eq!(audit.lines(), ["#1 done [DELETE 1] 1"]);
    // Not executed.
    audit.clients(&[bind("", "", "2"), C::Sync]);
    audit.servers(&[S::BindComplete, READY]);
    assert_eq!(audit.lines(), ["#2 write delete from t where a = $1 [2]", "#2 done [(bound, not executed)]"]);
    // Planning failed: that is what its record says.
    audit.clients(&[bind("", "", "3"), C::Sync]);
    audit.servers(&[error("the rows of a table"), READY]);
    assert_eq!(audit.lines()[1], "#3 failed: 42P01: the rows of a table []");
    // Bound and replaced, bound and closed, bound and cut off.
    audit.clients(&[
        bind("p", "", "4"),
        bind("p", "", "5"),
        C::Close(Target::Portal(b("p"))),
        bind("", "", "6"),
    ]);
    audit.servers(&[S::BindComplete, S::BindComplete, S::CloseComplete]);
    audit.finish("gone", 25);
    let ends: Vec<String> = audit.lines().into_iter().filter(|line| !line.contains("delete")).collect();
    let bound = |number| format!("#{number} done [(bound, not executed)]");
    assert_eq!(ends, [bound(4), bound(5), "#6 failed: gone []".to_owned()]);
}

#[test]
fn a_name_that_the_server_would_cut_or_read_otherwise_is_refused() {
    let long = "a".repeat(64);
    for message in [parse(&long, "select 1"), bind("", &long, "1"), bind(&long, "", "1"), execute(&long)] {
        let runs = audit(Kept::None).runs(&message);
        assert_eq!(audit(Kept::None).client(&message, runs, 0), Err(AuditError::Name));
    }
    assert_eq!(audit(Kept::None).client(&parse("é", "select 1"), None, 0), Err(AuditError::Name));
    assert_eq!(audit(Kept::None).client(&parse(&long[1..], "select 1"), None, 0), Ok(()));
}

#[test]
fn an_error_of_a_query_behind_a_close_skips_nothing() {
    let mut audit = audit(Kept::None);
    audit.clients(&[parse("p", "select 1"), C::Sync]);
    audit.servers(&[S::ParseComplete, READY]);
    audit.clients(&[C::Close(Target::Statement(b("x"))), query("bad"), query("delete from t")]);
    audit.servers(&[S::CloseComplete, error_of("42601", "bad"), READY]);
    audit.lines();
    audit.servers(&[tag("DELETE 2"), READY]);
    assert_eq!(audit.lines(), ["#2 done [DELETE 2] 2"]);
    audit.clients(&[C::Close(Target::Statement(b("p"))), parse("p", "drop table t"), C::Sync]);
    audit.servers(&[S::CloseComplete, S::ParseComplete, READY]);
    audit.clients(&[bind("", "p", "1")]);
    assert_eq!(audit.lines(), ["#3 schema drop table t [1]"]);
    // A description of what is not there, and a Query behind it that is skipped.
    let mut audit = self::audit(Kept::None);
    audit.clients(&[C::Describe(Target::Portal(b("nowhere"))), query("drop table t"), C::Sync]);
    audit.servers(&[error_of("34000", "no portal"), READY]);
    let lines = audit.lines();
    assert!(lines[1].contains("failed") && audit.is_idle(), "{lines:?}");
}

#[test]
fn a_name_of_a_batch_that_is_not_answered_is_not_guessed() {
    let mut audit = audit(Kept::None);
    audit.clients(&[parse("p", "delete from t"), C::Sync]);
    audit.servers(&[S::ParseComplete, READY]);
    audit.clients(&[parse("p", "select 1"), C::Sync]);
    for message in [bind("", "p", "1"), parse("p", "select 2"), C::Describe(Target::Statement(b("p")))] {
        assert!(audit.is_unsure(&message, None), "{message:?}");
    }
    assert!(!audit.is_unsure(&bind("", "other", "1"), None) && !audit.is_settled());
    audit.servers(&[error_of("42P05", "p exists"), READY]);
    assert!(audit.is_settled() && !audit.is_unsure(&bind("", "p", "1"), None));
    audit.lines();
    audit.clients(&[bind("", "p", "1"), execute(""), C::Sync]);
    assert_eq!(audit.lines(), ["#1 write delete from t [1]"]);
    // Pipelining with the unnamed statement waits for nothing.
    audit.clients(&[parse("", "select 1"), bind("", "", "1"), execute(""), C::Sync]);
    assert!(!audit.is_unsure(&parse("", "select 2"), None));
    audit.clients(&[parse("", "select 2")]);
    assert!(!audit.is_unsure(&bind("", "", "1"), None));
}

#[test]
fn a_name_is_what_the_server_says_that_it_prepared() {
    let mut audit = audit(Kept::None);
    audit.clients(&[parse("p", "delete from t"), C::Sync]);
    audit.servers(&[S::ParseComplete, READY]);
    audit.clients(&[query("prepare p as select 1")]);
    let execute = query("execute p");
    let runs = audit.runs(&execute);
    assert!(audit.is_unsure(&execute, runs.as_ref()));
    audit.servers(&[error_of("42P05", "p exists"), READY]);
    assert_eq!(audit.runs(&execute).unwrap().class(), StatementClass::Write);
    // The server's own reading of other names is not guessed at.
    for sql in ["execute U&\"\\0070\"", "execute \"é\"", &format!("execute {}", "p".repeat(64))] {
        assert_eq!(audit.runs(&query(sql)).unwrap().class(), StatementClass::Unknown, "{sql}");
    }
    // What a text with more in it does to names is not followed.
    for sql in
        ["deallocate p; prepare p as drop table t", "do 'begin execute ''prepare p as drop table t''; end'"]
    {
        audit.clients(&[query(sql)]);
        audit.servers(&[tag("DO"), READY]);
        assert_eq!(audit.runs(&execute).unwrap().class(), StatementClass::Unknown, "{sql}");
        audit.clients(&[C::Close(Target::Statement(b("p"))), parse("p", "delete from t"), C::Sync]);
        audit.servers(&[S::CloseComplete, S::ParseComplete, READY]);
    }
    audit.clients(&[query("select 'please prepare this'")]);
    assert_eq!(audit.runs(&execute).unwrap().class(), StatementClass::Write);
}

#[test]
fn an_answer_too_many_ends_no_statement() {
    let mut audit = audit(Kept::None);
    audit.clients(&[query("copy t from stdin")]);
    audit.servers(&[S::CopyIn(CopyFormat::Text)]);
    audit.from_client().copy(b"abc");
    audit.clients(&[C::CopyDone, C::Sync]);
    audit.from_client().copy(b"stray");
    audit.clients(&[C::Sync]);
    let secret = query("copy secret to stdout");
    assert!(audit.is_unsure(&secret, None), "nothing is sent behind a COPY that may read it");
    audit.servers(&[tag("COPY 1"), READY, READY, READY]);
    audit.lines();
    assert!(audit.is_idle() && !audit.is_adrift());
    audit.clients(&[secret]);
    audit.servers(&[S::CopyOut(CopyFormat::Text)]);
    audit.from_server().copy(b"abc");
    audit.servers(&[S::CopyDone, tag("COPY 1"), READY]);
    assert_eq!(
        audit.lines()[1..],
        ["download COPY secret", "end COPY secret 3 ba7816bf done", "#2 done [COPY 1] 1"]
    );
    // One that fails may have swallowed the Sync or not: only an answer to a question of ours tells.
    audit.clients(&[parse("", "copy t from stdin"), bind("", "", "1"), execute(""), C::Sync]);
    audit.servers(&[S::ParseComplete, S::BindComplete, S::CopyIn(CopyFormat::Text), error("a trigger")]);
    assert!(audit.is_adrift() && audit.is_idle());
    audit.clients(&[C::CopyDone, C::Sync]);
    audit.servers(&[READY, READY]);
    assert!(audit.is_idle(), "nothing is owed that nobody can count");
    audit.found();
    audit.lines();
    audit.clients(&[query("select 1")]);
    audit.servers(&[tag("SELECT 1"), READY]);
    assert_eq!(audit.lines(), ["#4 read select 1", "#4 done [SELECT 1] 1"]);
}

#[test]
fn what_is_in_flight_and_what_is_pinned_has_a_bound() {
    let mut audit = audit(Kept::None);
    let long = format!("select '{}'", "x".repeat(4 << 20));
    let mut sent = 0;
    while !audit.is_full() {
        audit.clients(&[parse("", &long)]);
        sent += 1;
    }
    assert!(sent <= 5, "{sent}");
    (0..sent).for_each(|_| audit.servers(&[S::ParseComplete]));
    assert!(!audit.is_full());
    // Portals pin their statements, closed or not.
    let error = (0..100).find_map(|number| {
        let name = format!("p{number}");
        let messages = [parse("s", &long), bind(&name, "s", "1"), C::Close(Target::Statement(b("s")))];
        let error = messages.iter().find_map(|message| audit.client(message, None, 0).err());
        audit.servers(&[S::ParseComplete, S::BindComplete, S::CloseComplete]);
        error
    });
    assert!(matches!(error, Some(AuditError::TooManyNames { .. })));
}

#[test]
fn cursors_and_portals_share_their_names() {
    let mut audit = audit(Kept::None);
    audit.clients(&[query("begin")]);
    audit.servers(&[tag("BEGIN"), OPEN]);
    audit.clients(&[parse("", "select 1"), bind("c", "", "1"), C::Sync]);
    audit.servers(&[S::ParseComplete, S::BindComplete, OPEN]);
    audit.clients(&[query("close c"), query("declare c cursor for select x from t")]);
    audit.servers(&[tag("CLOSE CURSOR"), OPEN, tag("DECLARE CURSOR"), OPEN]);
    assert_eq!(audit.runs(&execute("c")).unwrap().class(), StatementClass::Unknown);
}

#[test]
fn values_that_are_other_characters_to_the_server_are_not_shown_as_whole() {
    let mut audit = audit(Kept::None);
    audit.clients(&[parse("s", "delete from t where a = $1")]);
    let shown = |audit: &mut Audit, value: &str| {
        let message = bind("", "s", value);
        let runs = audit.runs(&message).unwrap();
        let C::Bind(bound) = &message else { unreachable!() };
        audit.values_to_show(bound, &runs)
    };
    assert!(shown(&mut audit, "caf\u{e9}").is_some());
    let status = |value: &str| S::ParameterStatus { name: b("client_encoding"), value: b(value) };
    audit.servers(&[status("LATIN1")]);
    assert_eq!(shown(&mut audit, "caf\u{e9}"), None);
    assert!(shown(&mut audit, "cafe").is_some());
    audit.servers(&[status("UTF8")]);
    assert!(shown(&mut audit, "caf\u{e9}").is_some());
}

#[path = "audit_rows_tests.rs"]
mod rows;
