//! What is risky about a statement, read off its words.

use halligan_core::catalog::StatementClass;

use crate::lexer::{Token, TokenKind};

/// Something that a second person should look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Risk {
    /// Our parser does not know what it is.
    NotParsed,
    /// COPY … PROGRAM: a command of the server's operating system.
    Program,
    /// Reads or writes files of the server.
    ServerFile,
    /// DO, CALL: code whose effects do not stand in the text.
    Code,
    /// SET ROLE, SET SESSION AUTHORIZATION, a `set_config` that may be one of them.
    SwitchesRole,
    /// Gives a role a password.
    SetsPassword,
    /// Changes roles or their rights.
    Roles,
    /// Calls a function that is known to change something.
    WritingFunction,
    /// Reaches another database from the server (dblink, foreign servers, subscriptions).
    RemoteDatabase,
    /// Ends or cancels other people's work.
    EndsBackend,
    /// Turns read-only off for a transaction or session.
    ReadWriteAgain,
    /// Changes the server's configuration.
    ServerConfiguration,
    /// Changes or deletes all rows of a table.
    WithoutWhere,
    /// Turns triggers and foreign keys off (`session_replication_role`).
    TriggersOff,
    /// Locks rows or tables against others.
    Locks,
    /// Replication slots and publications: data flows out, or the disk fills.
    Replication,
    /// A transaction that outlives its session (PREPARE TRANSACTION).
    PreparedTransaction,
    /// Runs what was prepared earlier, under a name.
    RunsPrepared,
    /// SECURITY DEFINER: a function that runs with its owner's rights.
    SecurityDefiner,
    /// Loads code into the server (LOAD, CREATE EXTENSION, LANGUAGE).
    LoadsCode,
    /// Advisory locks, which can outlive a transaction.
    AdvisoryLock,
}

impl Risk {
    /// A statement with this risk is at least of this class.
    pub(super) fn least_class(self) -> StatementClass {
        match self {
            Self::NotParsed | Self::Code => StatementClass::Unknown,
            Self::Program
            | Self::ServerFile
            | Self::SwitchesRole
            | Self::SetsPassword
            | Self::Roles
            | Self::ServerConfiguration
            | Self::LoadsCode
            | Self::Replication
            | Self::TriggersOff
            | Self::SecurityDefiner => StatementClass::Privilege,
            Self::RunsPrepared => StatementClass::Unknown,
            Self::WritingFunction
            | Self::RemoteDatabase
            | Self::EndsBackend
            | Self::Locks
            | Self::WithoutWhere
            | Self::AdvisoryLock
            | Self::PreparedTransaction => StatementClass::Write,
            Self::ReadWriteAgain => StatementClass::Read,
        }
    }

    /// For people: completes "this statement …".
    pub fn words(self) -> &'static str {
        match self {
            Self::NotParsed => "could not be read",
            Self::Program => "runs a program on the server",
            Self::ServerFile => "reaches files of the server",
            Self::Code => "runs code whose effects it does not show",
            Self::SwitchesRole => "may become another role",
            Self::SetsPassword => "sets a password",
            Self::Roles => "changes roles or rights",
            Self::WritingFunction => "calls a function that changes something",
            Self::RemoteDatabase => "reaches another database from the server",
            Self::EndsBackend => "ends other people's work",
            Self::ReadWriteAgain => "turns read-only off",
            Self::ServerConfiguration => "changes the server's configuration",
            Self::WithoutWhere => "touches all rows of a table",
            Self::TriggersOff => "turns triggers and foreign keys off",
            Self::Locks => "locks others out",
            Self::Replication => "touches replication",
            Self::PreparedTransaction => "leaves a transaction that outlives the session",
            Self::RunsPrepared => "runs what was prepared under a name",
            Self::SecurityDefiner => "makes a function that runs with its owner's rights",
            Self::LoadsCode => "loads code into the server",
            Self::AdvisoryLock => "takes an advisory lock",
        }
    }
}

/// Functions of PostgreSQL and its own extensions, by name or by how the name begins (`*`).
const FUNCTIONS: &[(&str, Risk)] = &[
    ("pg_read_file", Risk::ServerFile),
    ("pg_read_binary_file", Risk::ServerFile),
    ("pg_ls_*", Risk::ServerFile),
    ("pg_stat_file", Risk::ServerFile),
    ("pg_file_*", Risk::ServerFile),
    ("lo_import", Risk::ServerFile),
    ("lo_export", Risk::ServerFile),
    ("lo_*", Risk::WritingFunction),
    ("lowrite", Risk::WritingFunction),
    ("nextval", Risk::WritingFunction),
    ("setval", Risk::WritingFunction),
    ("query_to_xml*", Risk::Code),
    ("cursor_to_xml*", Risk::Code),
    ("table_to_xml*", Risk::Code),
    ("database_to_xml*", Risk::Code),
    ("schema_to_xml*", Risk::Code),
    ("dblink*", Risk::RemoteDatabase),
    ("postgres_fdw_*", Risk::RemoteDatabase),
    ("pg_terminate_backend", Risk::EndsBackend),
    ("pg_cancel_backend", Risk::EndsBackend),
    ("set_config", Risk::SwitchesRole),
    ("pg_reload_conf", Risk::ServerConfiguration),
    ("pg_rotate_logfile", Risk::ServerConfiguration),
    ("pg_promote", Risk::ServerConfiguration),
    ("pg_switch_wal", Risk::ServerConfiguration),
    ("pg_wal_replay_*", Risk::ServerConfiguration),
    ("pg_backup_*", Risk::ServerConfiguration),
    ("pg_start_backup", Risk::ServerConfiguration),
    ("pg_create_restore_point", Risk::ServerConfiguration),
    ("pg_create_*_replication_slot", Risk::Replication),
    ("pg_create_physical_replication_slot", Risk::Replication),
    ("pg_create_logical_replication_slot", Risk::Replication),
    ("pg_copy_*", Risk::Replication),
    ("pg_drop_replication_slot", Risk::Replication),
    ("pg_logical_*", Risk::Replication),
    ("pg_replication_*", Risk::Replication),
    ("pg_sync_replication_slots", Risk::Replication),
    ("pg_advisory_*", Risk::AdvisoryLock),
    ("pg_try_advisory_*", Risk::AdvisoryLock),
    ("pg_notify", Risk::WritingFunction),
    ("pg_stat_reset*", Risk::WritingFunction),
    ("pg_stat_statements_reset", Risk::WritingFunction),
    ("pg_import_system_collations", Risk::WritingFunction),
    ("pg_extension_config_dump", Risk::WritingFunction),
    ("brin_summarize_*", Risk::WritingFunction),
    ("gin_clean_pending_list", Risk::WritingFunction),
    ("pg_log_backend_memory_contexts", Risk::WritingFunction),
    ("pg_current_xact_id", Risk::WritingFunction),
    ("txid_current", Risk::WritingFunction),
    ("pg_prewarm", Risk::WritingFunction),
    ("pg_sleep*", Risk::Locks),
];

pub(super) fn find(statement: &[Token<'_>], risks: &mut Vec<Risk>) {
    let mut add = |risk| {
        if !risks.contains(&risk) {
            risks.push(risk);
        }
    };
    let word = |place: usize| statement.get(place).copied();
    let at = |place: usize, text: &str| word(place).is_some_and(|token| token.is(text));
    let anywhere = |text: &str| statement.iter().any(|token| token.is(text));
    let first = |text: &str| at(0, text);
    let named = |place: usize, text: &str| word(place).is_some_and(|token| token.is_named(text));
    let about_roles = (first("alter") || first("create")) && (anywhere("role") || anywhere("user"));
    for (place, token) in statement.iter().enumerate() {
        if !matches!(token.kind, TokenKind::Word | TokenKind::Quoted) {
            continue;
        }
        if word(place + 1).is_some_and(|next| next.is_mark("(")) {
            let name = token.name().to_ascii_lowercase();
            if setting_of(statement.get(place..).unwrap_or_default()).is_none() {
                FUNCTIONS
                    .iter()
                    .filter(|(known, _)| names(known, &name))
                    .take(1)
                    .for_each(|(_, risk)| add(*risk));
            }
        }
        if token.is("for") && ["update", "share", "no", "key"].iter().any(|kind| at(place + 1, kind)) {
            add(Risk::Locks);
        }
        if about_roles && token.is("password") {
            add(Risk::SetsPassword);
        }
        if token.is("security") && at(place + 1, "definer") {
            add(Risk::SecurityDefiner);
        }
        if token.is("read") && at(place + 1, "write") || token.is_named("default_transaction_read_only") {
            add(Risk::ReadWriteAgain);
        }
        if token.is_named("transaction_read_only") && !first("show") {
            add(Risk::ReadWriteAgain);
        }
        if token.is_named("session_replication_role") && !first("show") {
            add(Risk::TriggersOff);
        }
    }
    if first("copy") {
        if anywhere("program") {
            add(Risk::Program);
        }
        let after_direction = |token: &[Token<'_>]| matches!(token, [a, b] if (a.is("from") || a.is("to")) && matches!(b.kind, TokenKind::Text | TokenKind::Unended));
        if statement.windows(2).any(after_direction) {
            add(Risk::ServerFile);
        }
    }
    if first("do") || first("call") {
        add(Risk::Code);
    }
    if first("execute") {
        add(Risk::RunsPrepared);
    }
    if (first("set") || first("reset"))
        && (1..=2).any(|place| named(place, "role") || named(place, "session_authorization"))
        || (first("set") && anywhere("authorization"))
    {
        add(Risk::SwitchesRole);
    }
    let changes = first("create") || first("alter") || first("drop");
    if changes && ["role", "user", "group", "policy"].iter().any(|kind| at(1, kind))
        || first("grant")
        || first("revoke")
    {
        add(Risk::Roles);
    }
    if first("reassign") || (first("alter") && anywhere("owner")) || (first("alter") && at(1, "default")) {
        add(Risk::Roles);
    }
    if first("alter") && at(1, "system") {
        add(Risk::ServerConfiguration);
    }
    if first("load") || (changes && (at(1, "extension") || anywhere("language") && !anywhere("function"))) {
        add(Risk::LoadsCode);
    }
    if changes && (at(1, "server") || at(1, "foreign") || at(2, "mapping") || at(1, "subscription")) {
        add(Risk::RemoteDatabase);
    }
    if changes && (at(1, "publication") || at(1, "subscription")) {
        add(Risk::Replication);
    }
    if first("prepare") && at(1, "transaction") {
        add(Risk::PreparedTransaction);
    }
    if first("lock") && !locks_as_reads_do(statement) {
        add(Risk::Locks);
    }
    if (first("update") || first("delete")) && !anywhere("where") || first("truncate") {
        add(Risk::WithoutWhere);
    }
}

/// What every SELECT takes; pg_dump takes it by name.
pub(super) fn locks_as_reads_do(statement: &[Token<'_>]) -> bool {
    statement
        .windows(3)
        .any(|words| matches!(words, [a, b, c] if a.is("in") && b.is("access") && c.is("share")))
}

/// The literal that names the setting, where `tokens` begin with a call of `set_config` that names it in plain text and
/// it is no role: then it does what `SET` does. pg_dump begins with both of these.
pub(super) fn setting_of<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<&'t Token<'a>> {
    let after = match tokens {
        [call, open, after @ ..] if call.is_named("set_config") && open.is_mark("(") => after,
        _ => return None,
    };
    let setting = match after {
        [name, comma, ..] if name.kind == TokenKind::Text && comma.is_mark(",") => name,
        // set_config(name, 'value', false) FROM pg_settings WHERE name = 'setting'
        [
            name,
            comma,
            value,
            comma_2,
            local,
            end,
            from,
            settings,
            filter,
            name_2,
            equal,
            setting,
            rest @ ..,
        ] if name.is("name")
            && comma.is_mark(",")
            && value.kind == TokenKind::Text
            && comma_2.is_mark(",")
            && (local.is("true") || local.is("false"))
            && end.is_mark(")")
            && from.is("from")
            && settings.is("pg_settings")
            && filter.is("where")
            && name_2.is("name")
            && equal.text == "="
            && rest.first().is_none_or(|next| next.is_mark(";")) =>
        {
            setting
        }
        _ => return None,
    };
    is_plain_setting(setting).then_some(setting)
}

fn is_plain_setting(token: &Token<'_>) -> bool {
    let plain = token.text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    token.kind == TokenKind::Text
        && plain.is_some_and(|name| {
            let name = name.trim().to_ascii_lowercase();
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
                && !["role", "session_authorization", "session_replication_role"].contains(&name.as_str())
        })
}

/// `*` stands for anything, once.
fn names(known: &str, name: &str) -> bool {
    match known.split_once('*') {
        Some((begin, end)) => {
            name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
        }
        None => known == name,
    }
}
