//! Waits until a role says on its operations page that it can serve.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::page;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// Looks at `/readyz` until it says yes.
///
/// # Errors
/// After `patience`, with the last reasons.
///
/// # Cancel safety
/// Yes.
pub(crate) async fn until_ready(page_address: SocketAddr, patience: Duration) -> io::Result<()> {
    let (address, mut last) = (page_address.to_string(), String::from("no answer"));
    let wait = async {
        loop {
            match page::ask(&address, "/readyz").await {
                Ok(text) if page::is_ok(&text) => return,
                Ok(text) => last = text.rsplit("\r\n").next().unwrap_or_default().trim().to_owned(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let outcome = tokio::time::timeout(patience, wait).await;
    outcome.map_err(|elapsed| {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not ready at http://{page_address}/readyz: {last} ({elapsed})"),
        )
    })
}
