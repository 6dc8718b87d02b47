//! The contract of the store: one list of stories, each told on SQLite and on a real PostgreSQL.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may fail loudly")]

mod home;
mod ledger;
mod lists;
mod nodes;
mod outbox;
mod recording;

/// Tells each story once on each engine.
macro_rules! contract {
    ($($room:ident::$story:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() { super::$room::$story(&super::home::Home::sqlite()).await; })+
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() { super::$room::$story(&super::home::Home::postgres()).await; })+
        }
    };
}

contract! {
    recording::what_is_committed_can_be_read,
    recording::a_moved_document_is_a_conflict_and_leaves_no_trace,
    recording::one_of_32_writers_wins,
    recording::a_moved_read_set_is_refused,
    recording::a_document_made_again_is_another_one,
    recording::conflicts_do_not_harm_their_batch,
    recording::the_same_wish_is_recorded_once,
    recording::what_cannot_be_kept_is_refused,
    recording::many_documents_go_in_by_chunks,
    recording::a_closed_store_says_so,
    ledger::leaves_are_consecutive_and_in_order,
    ledger::time_never_goes_back,
    ledger::a_head_is_signed_once,
    ledger::everything_is_there_after_reopening,
    ledger::one_node_sequences,
    ledger::commits_are_heard_of,
    lists::pages_run_in_byte_order,
    lists::an_index_follows_its_document,
    lists::what_is_due_comes_oldest_first,
    lists::settings_are_kept,
    outbox::an_effect_is_leased_retried_and_done,
    outbox::two_workers_share_the_work,
}
