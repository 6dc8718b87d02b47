//! Result rows: counted, kept, read.

use super::*;
use crate::codec::{Piece, ServerScanner};

#[test]
fn rows_are_counted_and_kept_as_far_as_policy_says() {
    let mut audit = super::audit(Kept::First(2));
    audit.clients(&[query("select 1")]);
    let row = b"D\0\0\0\x0b\0\x01\0\0\0\x01x";
    audit.from_server().rows(&row.repeat(3), 3);
    audit.from_server().row_part(&row[..5], false);
    audit.from_server().row_part(&row[5..], true);
    audit.servers(&[tag("FETCH ALL"), READY]);
    assert_eq!(audit.lines()[1..], [r#"#1 2 rows [] [["x"],["x"]]"#, "#1 done [FETCH ALL] 4"]);
    // The session's room: 1000 bytes, 24 of them taken.
    let mut all = super::audit(Kept::All);
    all.clients(&[query("select 1")]);
    all.from_server().rows(&row.repeat(100), 100);
    all.servers(&[tag("SELECT 100"), READY]);
    let lines = all.lines();
    assert!(lines[1].starts_with(r#"#1 83 rows [] [["x"],["x"],"#), "{lines:?}");
    assert_eq!(lines[2], "#1 done [SELECT 100] 100");
}

/// Longer ones than pass whole otherwise come whole, and one that is longer than what is kept ends what is kept.
#[test]
fn a_row_that_is_kept_goes_on_when_it_is_whole_and_on_record() {
    let mut audit = super::audit(Kept::All);
    audit.keeper = crate::audit::rows::Keeper::new(7, Kept::All, 1 << 20);
    let mut scanner = ServerScanner::new(Kept::All.description_bytes());
    scanner.whole_rows(Kept::All.row_bytes());
    scanner.authenticated();
    audit.clients(&[query("select repeat('x', 100000)")]);
    audit.servers(&[described(&[("a", 25, 0)])]);
    audit.lines();
    let long = row(&[Some(&vec![b'x'; 100_000])]);
    let mut buffer = BytesMut::new();
    for piece in long.chunks(30_000) {
        assert!(audit.lines().is_empty());
        buffer.extend_from_slice(piece);
        let passed = scanner.next(&mut buffer, &mut audit.from_server()).unwrap();
        let whole = passed.is_some_and(|piece| piece == Piece::Pass(Bytes::copy_from_slice(&long)));
        assert_eq!(whole, buffer.is_empty(), "all at once, at its end");
    }
    let lines = audit.lines();
    assert!(lines[0].starts_with(r#"#1 1 rows ["a"] [["#), "{lines:?}");

    buffer.extend_from_slice(&row(&[Some(&vec![b'y'; 300_000])])[..20_000]);
    assert!(scanner.next(&mut buffer, &mut audit.from_server()).unwrap().is_some());
    assert!(audit.lines().is_empty() && !audit.keeper.wants_layout());
}

/// A RowDescription's fields: name, type, format.
fn described(columns: &[(&str, u32, i16)]) -> S {
    let mut fields = BytesMut::new();
    fields.put_u16(columns.len() as u16);
    for (name, type_oid, format) in columns {
        fields.put_slice(name.as_bytes());
        fields.put_slice(&[0; 7]);
        fields.put_u32(*type_oid);
        fields.put_slice(&[0; 6]);
        fields.put_i16(*format);
    }
    S::RowDescription { fields: fields.freeze() }
}

fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_u16(values.len() as u16);
    for value in values {
        body.put_i32(value.map_or(-1, |value| value.len() as i32));
        body.put_slice(value.unwrap_or_default());
    }
    [&b"D"[..], &(body.len() as u32 + 4).to_be_bytes(), &body].concat()
}

#[test]
fn rows_that_are_kept_can_be_read_in_either_format() {
    let mut audit = super::audit(Kept::All);
    let both = [("id", 23, 0), ("what", 25, 0)];
    audit.clients(&[query("select id, what from t; select 2")]);
    audit.servers(&[described(&both)]);
    audit.from_server().rows(&row(&[Some(b"7"), None]), 1);
    audit.servers(&[tag("SELECT 1"), described(&[("?column?", 23, 1)])]);
    audit.from_server().rows(&row(&[Some(&[0, 0, 0, 2])]), 1);
    audit.servers(&[tag("SELECT 1"), READY]);
    assert_eq!(
        audit.lines()[1..],
        [
            r#"#1 1 rows ["id","what"] [[7,null]]"#,
            r#"#1 1 rows ["?column?"] [[2]]"#,
            "#1 done [SELECT 1; SELECT 1] 2",
        ]
    );
    // Described when it was prepared; in which format its values come is said when it is bound.
    audit.clients(&[
        parse("s", "select id, what from t"),
        C::Describe(Target::Statement("s".into())),
        C::Sync,
    ]);
    audit.servers(&[S::ParseComplete, S::ParameterDescription { types: vec![] }, described(&both), READY]);
    for formats in [vec![1, 0], vec![]] {
        let C::Bind(bound) = bind("", "s", "") else { unreachable!() };
        let bound = C::Bind(Bind { parameters: vec![], result_formats: formats.clone(), ..bound });
        audit.clients(&[bound, execute(""), C::Sync]);
        audit.servers(&[S::BindComplete]);
        let id: &[u8] = if formats.is_empty() { b"9" } else { &[0, 0, 0, 9] };
        audit.from_server().rows(&row(&[Some(id), Some("ä".as_bytes())]), 1);
        audit.servers(&[tag("SELECT 1"), READY]);
        let lines = audit.lines();
        assert!(lines[1].ends_with(r#"1 rows ["id","what"] [[9,"ä"]]"#), "{lines:?}");
    }
    // Each row is on record before it goes on, not when the statement ends.
    audit.clients(&[query("select 3")]);
    audit.lines();
    audit.servers(&[described(&[("a", 25, 0)])]);
    audit.from_server().rows(&row(&[Some(b"x")]), 1);
    assert!(audit.lines()[0].ends_with(r#"1 rows ["a"] [["x"]]"#));
    audit.from_server().rows(&row(&[Some(b"y")]), 1);
    audit.servers(&[tag("SELECT 2"), READY]);
    assert!(audit.lines()[0].ends_with(r#"1 rows ["a"] [["y"]]"#));
    // What is no row ends what is kept of its statement, and nothing else.
    audit.clients(&[query("select 3")]);
    audit.servers(&[described(&[("a", 25, 0)])]);
    audit.from_server().rows(b"D\0\0\0\x08\0\x01\0\0", 1);
    audit.servers(&[tag("SELECT 1"), READY]);
    assert_eq!(audit.lines().len(), 2);
}
