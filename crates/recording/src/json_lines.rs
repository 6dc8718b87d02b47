//! A recording as JSON Lines: one object a record, for tools.
//!
//! `at_micros` and `kind` stand in each; a terminal's bytes are text (what is not UTF-8 is lost, the other
//! forms keep it), all other bytes are hex. Control characters are escaped, as JSON has it.

use std::io::Write;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::asciicast::ExportError;
use crate::reader::ReadError;
use crate::record::{Record, RecordKind};

/// Writes `records` to `out`, one object a line.
pub fn write_json_lines(
    records: impl IntoIterator<Item = Result<Record, ReadError>>,
    out: &mut impl Write,
) -> Result<(), ExportError> {
    for record in records {
        serde_json::to_writer(&mut *out, &json(&record?)).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// A record as JSON: its time, kind and fields; bytes of a terminal as text, other bytes as hex.
fn json(record: &Record) -> Value {
    use RecordKind as K;
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut value = match &record.kind {
        K::SessionStart { metadata } => {
            let facts = serde_json::from_str::<Value>(metadata);
            json!({"kind": "session_start", "facts": facts.unwrap_or_default()})
        }
        K::Output { channel, bytes } => json!({"kind": "output", "channel": channel, "text": text(bytes)}),
        K::Stderr { channel, bytes } => json!({"kind": "stderr", "channel": channel, "text": text(bytes)}),
        K::Input { channel, bytes } => json!({"kind": "input", "channel": channel, "text": text(bytes)}),
        K::Resize { channel, columns, rows } => {
            json!({"kind": "resize", "channel": channel, "columns": columns, "rows": rows})
        }
        K::Command { channel, text } => json!({"kind": "command", "channel": channel, "text": text}),
        K::ChannelOpen { channel, kind } => json!({"kind": "channel_open", "channel": channel, "what": kind}),
        K::ChannelEnd { channel, exit_status, signal } => {
            json!({"kind": "channel_end", "channel": channel, "exit_status": exit_status, "signal": signal})
        }
        K::TransferBegin { channel, path, direction } => json!({
            "kind": "transfer_begin", "channel": channel, "path": path, "direction": direction.word(),
        }),
        K::TransferEnd { channel, path, direction, bytes, sha256, outcome } => json!({
            "kind": "transfer_end", "channel": channel, "path": path, "direction": direction.word(),
            "bytes": bytes, "sha256": sha256.to_string(), "outcome": outcome.to_string(),
        }),
        K::FileOp { channel, op, path, path2, outcome } => json!({
            "kind": "file_op", "channel": channel, "op": op, "path": path, "path2": path2, "outcome": outcome.to_string(),
        }),
        K::Bulk { channel, direction, bytes, sha256 } => json!({
            "kind": "bulk", "channel": channel, "direction": direction.word(),
            "bytes": bytes, "sha256": sha256.to_string(),
        }),
        K::Content { channel, direction, bytes } => json!({
            "kind": "content", "channel": channel, "direction": direction.word(), "hex": hex::encode(bytes),
        }),
        K::Statement { channel, text, parameters, outcome, rows, duration_micros } => json!({
            "kind": "statement", "channel": channel, "text": text, "parameters": parameters,
            "outcome": outcome.to_string(), "rows": rows, "duration_micros": duration_micros,
        }),
        K::Result { channel, number, rows, columns, values: kept } => json!({
            "kind": "result", "channel": channel, "number": number, "rows": rows,
            "columns": values(columns), "values": values(kept),
        }),
        K::Rows { channel, rows, bytes } => {
            json!({"kind": "rows", "channel": channel, "rows": rows, "hex": hex::encode(bytes)})
        }
        K::Note { text } => json!({"kind": "note", "text": text}),
        K::Gap { reason } => json!({"kind": "gap", "reason": reason}),
        K::End { reason } => json!({"kind": "end", "reason": reason}),
        K::StatementBegin { channel, number, class, role, database, text, parameters } => json!({
            "kind": "statement_begin", "channel": channel, "number": number, "class": class, "role": role,
            "database": database, "text": text, "parameters": parameters.as_deref().map(values),
        }),
        K::StatementEnd { channel, number, outcome, tag, rows, duration_micros } => json!({
            "kind": "statement_end", "channel": channel, "number": number, "outcome": outcome.to_string(),
            "tag": tag, "rows": rows, "duration_micros": duration_micros,
        }),
        K::Notice { channel, severity, code, text } => json!({
            "kind": "notice", "channel": channel, "severity": severity, "code": code, "text": text,
        }),
        K::Unknown { tag, body } => json!({"kind": "unknown", "tag": tag, "hex": hex::encode(body)}),
    };
    if let Some(object) = value.as_object_mut() {
        object.insert("at_micros".to_owned(), record.at_micros.into());
    }
    value
}

/// Parameters and results are JSON already; if a writer broke that, they are shown as text.
fn values(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;
    use crate::record::tests::any_record;
    use proptest::prelude::*;

    #[test]
    fn a_statement_is_one_object_with_its_parameters_as_values() {
        let records = [
            RecordKind::StatementBegin {
                channel: 1,
                number: 9,
                class: "read".into(),
                role: "operate".into(),
                database: "orders".into(),
                text: "select $1".into(),
                parameters: Some("[42,null]".into()),
            },
            RecordKind::StatementEnd {
                channel: 1,
                number: 9,
                outcome: Outcome::Done,
                tag: "SELECT 1".into(),
                rows: Some(1),
                duration_micros: 77,
            },
            RecordKind::Notice {
                channel: 1,
                severity: "NOTICE".into(),
                code: "00000".into(),
                text: "\u{1b}hello".into(),
            },
        ];
        let mut out = Vec::new();
        write_json_lines(records.map(|kind| Ok(Record::new(5, kind))), &mut out).unwrap();
        // The order of fields within a line is not part of the format.
        let lines: Vec<serde_json::Value> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = [
            r#"{"at_micros":5,"channel":1,"class":"read","database":"orders","kind":"statement_begin","number":9,"parameters":[42,null],"role":"operate","text":"select $1"}"#,
            r#"{"at_micros":5,"channel":1,"duration_micros":77,"kind":"statement_end","number":9,"outcome":"done","rows":1,"tag":"SELECT 1"}"#,
            r#"{"at_micros":5,"channel":1,"code":"00000","kind":"notice","severity":"NOTICE","text":"\u001bhello"}"#,
        ];
        let expected: Vec<serde_json::Value> =
            expected.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, expected);
    }

    proptest! {
        #[test]
        fn each_record_is_one_line_and_one_object(records in prop::collection::vec(any_record(), 1..10)) {
            let mut out = Vec::new();
            write_json_lines(records.iter().cloned().map(Ok), &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(text.lines().count(), records.len());
            for (line, record) in text.lines().zip(&records) {
                let value: Value = serde_json::from_str(line).unwrap();
                prop_assert_eq!(value["at_micros"].as_u64(), Some(record.at_micros));
                prop_assert!(value["kind"].is_string());
            }
        }
    }
}
