//! Stock clients.

use halligan_recording::RecordKind;

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_works_and_every_statement_is_on_record() {
    let world = World::new().await;
    assert_eq!(world.sql("SELECT count(*) FROM orders").await.unwrap(), "1000");
    let records = world.records().await;
    assert!(statements(&records).contains(&"SELECT count(*) FROM orders".to_owned()), "{records:#?}");
    let ended = records.iter().any(
        |record| matches!(record, RecordKind::StatementEnd { tag, rows: Some(1), .. } if tag == "SELECT 1"),
    );
    assert!(ended, "{records:#?}");
    // Whose rights they are, and who they are at the server.
    assert_eq!(world.sql("SELECT current_user").await.unwrap(), "orders_write");
    let as_user = world.sql("SELECT session_user, current_setting('application_name')").await.unwrap();
    let session = world.last_session().0;
    assert_eq!(
        as_user,
        format!("halligan_{}_gw-1|halligan:{session}", world.lease.grant)
            .to_lowercase()
            .replace(&format!("halligan:{session}").to_lowercase(), &format!("halligan:{session}"))
    );
    assert!(world.sql("SELECT * FROM nowhere").await.unwrap_err().contains("42P01") == false);
}
