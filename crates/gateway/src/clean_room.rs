//! The clean room, over mutual TLS.

use crate::backend::{Messages, Party, PartyError};
use crate::net::is_an_answer;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use guildhall_identity::{Dialer, Expect, IdentityError, MAX_MESSAGE_BYTES};
use guildhall_model::PeerId;
use guildhall_plan::catalogue::CleanRoom;
use guildhall_plan::remote::Fragment;
use guildhall_proto::clean_room::v1::clean_room_client::CleanRoomClient as Stub;
use guildhall_proto::clean_room::v1::{Part, ReleaseRequest};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_telemetry::error_chain;
use std::error::Error as _;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The longest to wait for the schema. It comes with the answer: nothing leaves a clean room before all is released, and
/// that may take as long as it gives one question.
const FIRST_ANSWER: Duration = Duration::from_secs(660);

/// Calls one clean room. Clones share its connection.
#[derive(Debug, Clone)]
pub(crate) struct CleanRoomClient {
    peer: PeerId,
    stub: Stub<Channel>,
    first_answer: Duration,
}

impl CleanRoomClient {
    /// The clean room `room`; connects when first called. Fails if its address is not `host:port`.
    pub(crate) fn new(dialer: &Dialer, room: &CleanRoom) -> Result<Self, IdentityError> {
        let channel = dialer.channel(&room.address, Expect::Peer(room.peer.clone()))?;
        Ok(Self::over(channel, room.peer.clone()))
    }

    /// The one that is `peer`, over a channel made elsewhere.
    fn over(channel: Channel, peer: PeerId) -> Self {
        let stub = Stub::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self {
            peer,
            stub,
            first_answer: FIRST_ANSWER,
        }
    }

    pub(crate) fn is(&self, peer: &PeerId) -> bool {
        self.peer == *peer
    }

    fn party(&self) -> Party {
        Party::CleanRoom(self.peer.council.clone())
    }

    /// Has what the fragment's parts give put together and released, under a grant for each, in their order. The schema
    /// comes first; dropping the stream ends the work.
    pub(crate) async fn release(
        &self,
        fragment: &Fragment,
        grants: Vec<Envelope>,
    ) -> Result<Messages, PartyError> {
        if grants.len() != fragment.parts.len() {
            return Err(PartyError::Failed(self.party()));
        }
        let first = tokio::time::timeout(self.first_answer, self.start(request(fragment, grants)));
        let Ok(started) = first.await else {
            tracing::info!(party = %self.party(), "did not answer in time");
            return Err(PartyError::Away(self.party()));
        };
        started
    }

    async fn start(&self, request: ReleaseRequest) -> Result<Messages, PartyError> {
        let party = self.party();
        let sent = self.stub.clone().release(request).await;
        let mut messages = sent.map_err(|s| told(&party, &s))?.into_inner();
        let Some(first) = messages.message().await.map_err(|s| told(&party, &s))? else {
            tracing::warn!(%party, "ended before the schema");
            return Err(PartyError::Failed(party));
        };
        let rest = messages.map_err(move |status| told(&party, &status));
        Ok(stream::iter([Ok(first)]).chain(rest).boxed())
    }
}

fn request(fragment: &Fragment, grants: Vec<Envelope>) -> ReleaseRequest {
    let parts = fragment.parts.iter().zip(grants);
    let parts = parts.map(|(part, grant)| Part {
        grant: Some(grant),
        fragment: part.bytes.to_vec(),
        address: part.address.clone(),
    });
    ReleaseRequest {
        parts: parts.collect(),
        cell_status: fragment.cell_status,
        // Of parts of cells there is no question but theirs.
        linked: fragment.bytes.to_vec(),
    }
}

/// What the caller is told of a failure; the rest is logged here. What the clean room says itself is passed on: that a
/// department is away, above all.
fn told(party: &Party, status: &Status) -> PartyError {
    // tonic gives a status of its own making a source, and one that the peer sent none.
    if let Some(source) = status.source() {
        tracing::info!(%party, reason = error_chain(source), "did not answer");
        return PartyError::Away(party.clone());
    }
    match status.code() {
        code if code == Code::Unavailable || is_an_answer(code) => PartyError::Refused {
            party: party.clone(),
            code,
            message: status.message().to_owned(),
        },
        code => {
            tracing::warn!(%party, ?code, reason = status.message(), "failed");
            PartyError::Failed(party.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream::BoxStream;
    use guildhall_model::{Digest, OutputClass};
    use guildhall_plan::remote::Mode;
    use guildhall_proto::clean_room::v1::clean_room_server::{
        CleanRoom as Service, CleanRoomServer,
    };
    use guildhall_proto::node::v1::ArrowMessage;
    use std::sync::{Arc, Mutex};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::{Request, Response};

    const ROOM: &str = "spiffe://northmoor/council/clean-room/main";

    type Answer = BoxStream<'static, Result<ArrowMessage, Status>>;
    type Makes = Box<dyn Fn() -> Result<Answer, Status> + Send + Sync>;

    /// Answers as it was told to, and keeps what it was asked.
    struct Room {
        makes: Makes,
        asked: Arc<Mutex<Vec<ReleaseRequest>>>,
    }

    #[tonic::async_trait]
    impl Service for Room {
        type ReleaseStream = Answer;

        async fn release(
            &self,
            request: Request<ReleaseRequest>,
        ) -> Result<Response<Answer>, Status> {
            self.asked.lock().unwrap().push(request.into_inner());
            (self.makes)().map(Response::new)
        }
    }

    fn message(body: &'static [u8]) -> ArrowMessage {
        ArrowMessage {
            header: Bytes::new(),
            body: Bytes::from_static(body),
        }
    }

    async fn room(
        makes: impl Fn() -> Result<Answer, Status> + Send + Sync + 'static,
    ) -> (CleanRoomClient, Arc<Mutex<Vec<ReleaseRequest>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let service = CleanRoomServer::new(Room {
            makes: Box::new(makes),
            asked: asked.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = tonic::transport::Server::builder().add_service(service);
        let incoming = TcpListenerStream::new(listener);
        guildhall_telemetry::spawn(router.serve_with_incoming(incoming));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        let client = CleanRoomClient::over(channel.connect_lazy(), ROOM.parse().unwrap());
        (client, asked)
    }

    fn part(council: &str) -> Fragment {
        let bytes = Bytes::from(format!("what {council} is asked"));
        Fragment {
            node: format!("spiffe://{council}/parking/node/one")
                .parse()
                .unwrap(),
            address: format!("{council}:1"),
            digest: Digest::of(&bytes),
            bytes,
            products: vec![],
            output: OutputClass::PartialCells,
            mode: Mode::Joint,
            cell_status: false,
            recipient: Some(ROOM.parse().unwrap()),
            linked: None,
            parts: vec![],
        }
    }

    fn whole() -> Fragment {
        Fragment {
            node: ROOM.parse().unwrap(),
            bytes: Bytes::new(),
            output: OutputClass::ReleasedCells,
            cell_status: true,
            recipient: None,
            parts: vec![part("northmoor"), part("southsea")],
            ..part("northmoor")
        }
    }

    fn grant(id: &str) -> Envelope {
        Envelope {
            payload: id.into(),
            ..Envelope::default()
        }
    }

    async fn release(client: &CleanRoomClient) -> Result<Messages, PartyError> {
        let grants = vec![grant("g-1"), grant("g-2")];
        client.release(&whole(), grants).await
    }

    async fn fails(client: &CleanRoomClient) -> PartyError {
        match release(client).await {
            Ok(_) => panic!("an answer"),
            Err(error) => error,
        }
    }

    #[tokio::test]
    async fn each_part_goes_with_its_own_grant_and_messages_come_as_they_are() {
        let answer = || Ok(stream::iter([Ok(message(b"a")), Ok(message(b"b"))]).boxed());
        let (client, asked) = room(answer).await;
        let messages: Vec<_> = release(&client).await.unwrap().try_collect().await.unwrap();
        assert_eq!(messages, [message(b"a"), message(b"b")]);
        let asked = asked.lock().unwrap();
        let [request] = asked.as_slice() else {
            panic!("{} requests", asked.len());
        };
        assert!(request.cell_status);
        for (given, (council, id)) in request
            .parts
            .iter()
            .zip([("northmoor", "g-1"), ("southsea", "g-2")])
        {
            assert_eq!(given.grant, Some(grant(id)));
            assert_eq!(given.fragment, part(council).bytes);
            assert_eq!(given.address, format!("{council}:1"));
        }
        assert!(request.linked.is_empty());
    }

    #[tokio::test]
    async fn the_question_that_rows_meet_in_goes_with_their_grants() {
        let answer = || Ok(stream::iter([Ok(message(b"a"))]).boxed());
        let (client, asked) = room(answer).await;
        let linked = Fragment {
            bytes: Bytes::from_static(b"how they meet"),
            mode: Mode::Linked,
            ..whole()
        };
        let grants = vec![grant("g-1"), grant("g-2")];
        client.release(&linked, grants).await.map(drop).unwrap();
        assert_eq!(asked.lock().unwrap()[0].linked, b"how they meet");
    }

    #[tokio::test]
    async fn what_the_clean_room_says_of_a_department_is_passed_on() {
        let (client, _) = room(|| Err(Status::unavailable("department `parking` is away"))).await;
        let error = fails(&client).await;
        assert!(
            matches!(
                &error,
                PartyError::Refused { code: Code::Unavailable, message, .. } if message == "department `parking` is away"
            ),
            "{error:?}"
        );
        assert!(!error.is_away());
    }

    #[tokio::test]
    async fn a_fault_of_the_clean_room_is_told_by_its_name_alone() {
        let (client, _) = room(|| Err(Status::internal("reference r-1"))).await;
        assert_eq!(
            fails(&client).await.to_string(),
            "the clean room of `northmoor` failed"
        );
        let (client, _) = room(|| Ok(stream::empty().boxed())).await;
        assert!(matches!(fails(&client).await, PartyError::Failed(_)));
    }

    #[tokio::test]
    async fn a_clean_room_that_nobody_is_at_is_away() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        let client = CleanRoomClient::over(channel.connect_lazy(), ROOM.parse().unwrap());
        let error = fails(&client).await;
        assert!(error.is_away(), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the clean room of `northmoor` did not answer"
        );
    }

    #[tokio::test]
    async fn one_that_is_silent_is_given_up() {
        let (client, _) = room(|| Ok(stream::pending().boxed())).await;
        let client = CleanRoomClient {
            first_answer: Duration::from_millis(100),
            ..client
        };
        assert!(fails(&client).await.is_away());
    }

    #[tokio::test]
    async fn dropping_the_stream_ends_the_work() {
        struct Tell(Option<oneshot::Sender<()>>);
        impl Drop for Tell {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        let (tell, dropped) = oneshot::channel();
        let tell = Mutex::new(Some(Tell(Some(tell))));
        let (client, _) = room(move || {
            let tell = tell.lock().unwrap().take();
            let first = stream::iter([Ok(message(b"a"))]);
            let endless = stream::pending().inspect(move |_: &Result<ArrowMessage, Status>| {
                let _ = &tell;
            });
            Ok(first.chain(endless).boxed())
        })
        .await;
        let mut messages = release(&client).await.unwrap();
        messages.next().await.unwrap().unwrap();
        drop(messages);
        dropped.await.unwrap();
    }
}
