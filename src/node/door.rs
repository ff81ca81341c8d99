//! Who may be told the blocks of snapshots: the controller, whose token the API server vouches for.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::api::client;
use crate::csi::backend::{Error, Result};
use crate::csi::remote::{AUDIENCE, Admission, Doorkeeper};
use crate::report::Class;

/// How long the API server may take.
const REVIEW_MAX: Duration = Duration::from_secs(10);

/// Asks the API server, each time: a token may be revoked.
pub(super) struct Door {
    reviews: Api<TokenReview>,
    controller: String,
}

impl Door {
    /// Lets the user of this name in.
    pub(super) fn new(client: Client, controller: String) -> Self {
        Self { reviews: Api::all(client), controller }
    }
}

impl Doorkeeper for Door {
    async fn admit(&self, token: &str) -> Result<Admission> {
        let spec =
            TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let params = PostParams::default();
        let answer = tokio::time::timeout(REVIEW_MAX, self.reviews.create(&params, &review));
        let status = match answer.await {
            Ok(Ok(review)) => review.status.unwrap_or_default(),
            Ok(Err(error)) => return Err(Error::new(Class::Transient, client::told(&error))),
            Err(_) => return Err(Error::new(Class::Transient, "the API server does not answer")),
        };
        // A server that does not look at audiences names none: to it any token would do.
        let made_for_this = status.audiences.unwrap_or_default().iter().any(|audience| audience == AUDIENCE);
        if status.authenticated != Some(true) || !made_for_this {
            return Ok(Admission::Nobody);
        }
        let user = status.user.and_then(|user| user.username);
        Ok(if user.as_deref() == Some(self.controller.as_str()) {
            Admission::Admitted
        } else {
            Admission::SomebodyElse
        })
    }
}
