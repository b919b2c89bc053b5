//! What monitoring asks for, as OpenMetrics text on a listener of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use waypost_protocol::confirmation::Confirmation;

use crate::api::Shared;
use crate::store::{Counts, StoreError};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    path: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    verdict: &'static str,
}

/// Counts of this process, and what its database has.
#[derive(Default)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    failures: Counter,
    confirmed: Counter,
    told: Counter,
    untold: Counter,
    documents: Family<Of, Gauge>,
    confirmations: Gauge,
    notices: Gauge,
    key_expires: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// With nothing counted.
    pub(crate) fn new() -> Self {
        let mut metrics =
            Metrics { registry: Registry::with_prefix("waypost_destination"), ..Metrics::default() };
        let registry = &mut metrics.registry;
        registry.register("requests", "Requests answered, by path and status", metrics.requests.clone());
        registry.register(
            "documents_without_verdict",
            "Uploaded documents that got no verdict",
            metrics.failures.clone(),
        );
        registry.register("confirmations_sent", "Confirmations in answers", metrics.confirmed.clone());
        registry.register("webhook_told", "Documents that the webhook took", metrics.told.clone());
        registry.register(
            "webhook_failures",
            "Requests that the webhook did not take",
            metrics.untold.clone(),
        );
        registry.register("documents", "Documents in the database, by verdict", metrics.documents.clone());
        registry.register("confirmations", "Confirmations in the database", metrics.confirmations.clone());
        registry.register(
            "webhook_waiting",
            "Documents that the webhook is yet to be told of",
            metrics.notices.clone(),
        );
        registry.register_with_unit(
            "key_expires",
            "When phones can no longer seal to the key, Unix time; positive infinity: never",
            Unit::Seconds,
            metrics.key_expires.clone(),
        );
        metrics
    }

    pub(crate) fn answered(&self, path: &'static str, status: StatusCode) {
        self.requests.get_or_create(&Answered { path, status: status.as_u16() }).inc();
    }

    pub(crate) fn failures(&self, count: usize) {
        self.failures.inc_by(count as u64);
    }

    pub(crate) fn sent(&self, confirmations: &[Confirmation]) {
        self.confirmed.inc_by(confirmations.len() as u64);
    }

    pub(crate) fn webhook_told(&self) {
        self.told.inc();
    }

    pub(crate) fn webhook_failed(&self) {
        self.untold.inc();
    }

    /// OpenMetrics text, with what the database has at the moment.
    fn text(&self, counts: &Counts, key_expires: f64) -> String {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (verdict, count) in
            [("opened", counts.opened), ("held", counts.held), ("rejected", counts.rejected)]
        {
            self.documents.get_or_create(&Of { verdict }).set(gauge(count));
        }
        self.confirmations.set(gauge(counts.confirmations));
        self.notices.set(gauge(counts.notices));
        self.key_expires.set(key_expires);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// `GET /metrics`, and `GET /health` for a load balancer: 200 where the database answers.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/health", get(health)).with_state(shared)
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let asked =
        tokio::task::spawn_blocking(move || shared.intake().store().client_by_token(&[0; 32]).map(drop));
    match asked.await {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let asked = tokio::task::spawn_blocking(move || {
        let counts = shared.intake().store().counts()?;
        Ok::<_, StoreError>(shared.metrics().text(&counts, shared.key_expires()))
    });
    match asked.await {
        Ok(Ok(text)) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
