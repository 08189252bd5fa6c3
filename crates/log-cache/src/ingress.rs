//! The gRPC ingress: receives batches from every client with a certificate of the control plane.

use crate::intake::Intake;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use kit::CancellationToken;
use std::pin::Pin;
use tonic::server::{ClientStreamingService, Grpc, UnaryService};
use tonic_prost::ProstCodec;
use wire::loggregator::{BATCH_SENDER, BatchSenderResponse, EnvelopeBatch};

/// The path of the call that sends one batch.
const SEND: &str = "/loggregator.v2.Ingress/Send";
const MAX_BATCH: usize = 16 << 20;

#[derive(Clone, Debug)]
struct Ingress {
    intake: Intake,
    /// The token that ends open calls, whose senders would keep them open without end.
    shutdown: CancellationToken,
}

pub(crate) fn router(intake: Intake, shutdown: CancellationToken) -> Router {
    Router::new()
        .route(BATCH_SENDER, post(batch_sender))
        .route(SEND, post(send))
        .with_state(Ingress { intake, shutdown })
}

fn grpc() -> Grpc<ProstCodec<BatchSenderResponse, EnvelopeBatch>> {
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_BATCH)
}

async fn batch_sender(State(ingress): State<Ingress>, request: Request) -> Response {
    grpc()
        .client_streaming(ingress, request)
        .await
        .map(Body::new)
}

async fn send(State(ingress): State<Ingress>, request: Request) -> Response {
    grpc().unary(ingress, request).await.map(Body::new)
}

type Answer = Pin<
    Box<dyn Future<Output = Result<tonic::Response<BatchSenderResponse>, tonic::Status>> + Send>,
>;

impl ClientStreamingService<EnvelopeBatch> for Ingress {
    type Response = BatchSenderResponse;
    type Future = Answer;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<EnvelopeBatch>>) -> Answer {
        let ingress = self.clone();
        Box::pin(async move {
            let mut batches = request.into_inner();
            loop {
                let batch = tokio::select! {
                    () = ingress.shutdown.cancelled() => return Err(tonic::Status::unavailable("log-cache is stopping")),
                    batch = batches.message() => batch?,
                };
                match batch {
                    Some(batch) => ingress.intake.accept(batch.batch),
                    None => return Ok(tonic::Response::new(BatchSenderResponse {})),
                }
            }
        })
    }
}

impl UnaryService<EnvelopeBatch> for Ingress {
    type Response = BatchSenderResponse;
    type Future = Answer;

    fn call(&mut self, request: tonic::Request<EnvelopeBatch>) -> Answer {
        self.intake.accept(request.into_inner().batch);
        Box::pin(std::future::ready(Ok(tonic::Response::new(
            BatchSenderResponse {},
        ))))
    }
}
