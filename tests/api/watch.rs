//! Watches.

use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::json;
use tower::BoxError;

use super::request::Request;
use super::store::selected;
use super::{AnyBody, ApiServer};

/// The lines of a watch: what has happened since the version that the request names, and what happens from now on.
pub fn body(server: ApiServer, request: &Request, epoch: u64) -> AnyBody {
    let request = request.clone();
    let start = (server, request.since);
    let lines = stream::unfold(start, move |(server, since)| next(server, request.clone(), epoch, since));
    StreamBody::new(lines).boxed_unsync()
}

type Line = Result<Frame<Bytes>, BoxError>;

async fn next(
    server: ApiServer,
    request: Request,
    epoch: u64,
    mut since: u64,
) -> Option<(Line, (ApiServer, u64))> {
    let mut changes = server.changes.subscribe();
    loop {
        let mut lines = String::new();
        {
            let state = server.state();
            if state.epoch != epoch {
                return None;
            }
            if since < state.forgotten {
                let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                    "message": "too old resource version", "reason": "Expired", "code": 410});
                let line = json!({"type": "ERROR", "object": gone}).to_string() + "\n";
                return Some((Ok(Frame::data(Bytes::from(line))), (server.clone(), u64::MAX)));
            }
            let from = state.store.history.partition_point(|happened| happened.version <= since);
            for happened in
                state.store.history[from..].iter().filter(|_| !state.held.contains(&request.resource))
            {
                since = happened.version;
                if happened.resource == request.resource && selected(&happened.object, &request) {
                    lines += &(json!({"type": happened.what, "object": happened.object}).to_string() + "\n");
                }
            }
        }
        if !lines.is_empty() {
            return Some((Ok(Frame::data(Bytes::from(lines))), (server, since)));
        }
        changes.changed().await.ok()?;
    }
}
