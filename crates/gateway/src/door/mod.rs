//! The door for analysts: Flight SQL.
//!
//! Every RPC but the handshake starts with [`Check::caller`], whose [`Caller`] everything below
//! asks for, so that a call without a credential gets no further. Flight's own trait is
//! implemented rather than arrow-flight's `FlightSqlService`, which has no place for GetSchema,
//! PollFlightInfo and typed refusals.
//!
//! What a client is handed (tickets, handles) is sealed and its own; a ticket is good without
//! the prepared statement it came from, and on any connection of the same principal.

mod action;
mod fetch;
mod handshake;
mod info;
mod messages;
mod put;
mod settings;

#[cfg(test)]
pub(crate) use messages::{
    GetSessionOptionsResult, OptionValue, SessionOptionValue, SetSessionOptionsRequest,
    SetSessionOptionsResult,
};

use crate::credential::{Caller, Check};
use crate::engine::Engine;
use crate::error::DoorError;
use crate::seal::{NoRandomness, Sealer};
use crate::session::{Options, SessionRef, Sessions, fresh_cookie};
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Any, Command};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, stream};
use guildhall_identity::remote_of;
use guildhall_model::{CouncilName, QueryId, SharedClock};
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};
use std::pin::Pin;
use std::sync::Arc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

pub(crate) type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

const READ_ONLY: &str =
    "this server is read-only: it answers SELECT, EXPLAIN, SHOW and SET guildhall.*";
const TRANSACTIONS: &str = "there are no transactions: every statement reads, and stands alone";
const SUBSTRAIT: &str = "Substrait plans are not taken at this door\nhelp: send SQL";

/// On the answer to DoGet: who is missing from a partial one, as far as is known by then. The
/// last message of the stream says it in its metadata for certain.
const MISSING_HEADER: &str = "x-guildhall-missing";

/// The Flight service.
#[derive(Debug, Clone)]
pub(crate) struct Door(pub(crate) Arc<Inner>);

/// What the RPCs share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) check: Check,
    pub(crate) engine: Engine,
    pub(crate) sealer: Sealer,
    pub(crate) sessions: Sessions,
    pub(crate) clock: SharedClock,
    pub(crate) default_council: CouncilName,
}

/// A call whose sender is known.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: Caller,
    pub(crate) session: SessionRef,
    /// What headers and session say together.
    pub(crate) options: Options,
    /// Whether the client keeps cookies, as far as this call shows.
    pub(crate) has_cookie: bool,
}

#[tonic::async_trait]
impl FlightService for Door {
    type HandshakeStream = Answer<HandshakeResponse>;
    type ListFlightsStream = Answer<FlightInfo>;
    type DoGetStream = Answer<FlightData>;
    type DoPutStream = Answer<PutResult>;
    type DoActionStream = Answer<arrow_flight::Result>;
    type ListActionsStream = Answer<ActionType>;
    type DoExchangeStream = Answer<FlightData>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let text = self.0.sign_in(request).await?;
        let answer = HandshakeResponse {
            protocol_version: 0,
            payload: text.clone().into(),
        };
        let answer: Self::HandshakeStream = Box::pin(stream::iter([Ok(answer)]));
        let mut response = Response::new(answer);
        if let Ok(value) = format!("Bearer {text}").parse() {
            response.metadata_mut().insert("authorization", value);
        }
        give_cookie(response.metadata_mut());
        Ok(response)
    }

    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.0.call(&request).await?;
        Err(DoorError::Unsupported(
            "flights are not listed\nhelp: browse with Flight SQL's GetTables",
        )
        .into())
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let call = self.0.call(&request).await?;
        let (info, was_set) = self.0.info(&call, request.into_inner(), true).await?;
        let mut response = Response::new(info);
        if was_set && !call.has_cookie {
            let cookie = give_cookie(response.metadata_mut());
            self.0.keep_under_cookie(&call, cookie).await;
        }
        Ok(response)
    }

    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<PollInfo>, Status> {
        let call = self.0.call(&request).await?;
        // Planning is all that happens before the first row, so the first poll is the last.
        let (info, _) = self.0.info(&call, request.into_inner(), true).await?;
        let poll = PollInfo {
            info: Some(info),
            flight_descriptor: None,
            progress: Some(1.0),
            expiration_time: None,
        };
        Ok(Response::new(poll))
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<SchemaResult>, Status> {
        let call = self.0.call(&request).await?;
        let (info, _) = self.0.info(&call, request.into_inner(), false).await?;
        Ok(Response::new(SchemaResult {
            schema: info.schema,
        }))
    }

    async fn do_get(
        &self,
        request: Request<Ticket>,
    ) -> Result<Response<Self::DoGetStream>, Status> {
        let call = self.0.call(&request).await?;
        let ticket = request.into_inner().ticket;
        let reply = self.0.result(&call, &ticket).await?;
        let mut response = Response::new(reply.messages);
        if let Ok(missing) = reply.missing.join(", ").parse()
            && !reply.missing.is_empty()
        {
            response.metadata_mut().insert(MISSING_HEADER, missing);
        }
        Ok(response)
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoPutStream>, Status> {
        let call = self.0.call(&request).await?;
        let answer = self.0.put(&call, request.into_inner()).await?;
        let answer = PutResult {
            app_metadata: answer.into(),
        };
        let answer: Self::DoPutStream = Box::pin(stream::iter([Ok(answer)]));
        let mut response = Response::new(answer);
        if !call.has_cookie && self.0.sessions.stored(&call.session).await != Options::default() {
            let cookie = give_cookie(response.metadata_mut());
            self.0.keep_under_cookie(&call, cookie).await;
        }
        Ok(response)
    }

    async fn do_action(
        &self,
        request: Request<Action>,
    ) -> Result<Response<Self::DoActionStream>, Status> {
        let call = self.0.call(&request).await?;
        let answer = action::act(&self.0, &call, request.into_inner()).await?;
        let answer = answer
            .into_iter()
            .map(|body| Ok(arrow_flight::Result { body: body.into() }));
        let answer: Self::DoActionStream = Box::pin(stream::iter(answer.collect::<Vec<_>>()));
        let mut response = Response::new(answer);
        if !call.has_cookie && self.0.sessions.stored(&call.session).await != Options::default() {
            let cookie = give_cookie(response.metadata_mut());
            self.0.keep_under_cookie(&call, cookie).await;
        }
        Ok(response)
    }

    async fn list_actions(
        &self,
        request: Request<Empty>,
    ) -> Result<Response<Self::ListActionsStream>, Status> {
        self.0.call(&request).await?;
        let actions = action::OFFERED.iter().map(|(name, description)| {
            Ok(ActionType {
                r#type: (*name).to_owned(),
                description: (*description).to_owned(),
            })
        });
        let actions: Self::ListActionsStream = Box::pin(stream::iter(actions));
        Ok(Response::new(actions))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.0.call(&request).await?;
        Err(
            DoorError::Unsupported("data is not exchanged\nhelp: ask with GetFlightInfo and DoGet")
                .into(),
        )
    }
}

impl Inner {
    /// The one check: who sent this, and with which options.
    async fn call<T>(&self, request: &Request<T>) -> Result<Call, DoorError> {
        let caller = self.check.caller(request).await?;
        let session = SessionRef::of(&caller, request.metadata(), remote_of(request));
        let options = self.sessions.options(&session, request.metadata()).await?;
        Ok(Call {
            caller,
            options,
            has_cookie: session.has_cookie(),
            session,
        })
    }

    async fn keep_under_cookie(&self, call: &Call, cookie: Option<String>) {
        if let Some(cookie) = cookie {
            let options = self.sessions.stored(&call.session).await;
            self.sessions
                .keep(&SessionRef::of_cookie(&call.caller, &cookie), options)
                .await;
        }
    }
}

/// The Flight SQL command in `bytes`.
fn command(bytes: &[u8]) -> Result<Command, DoorError> {
    let unreadable = || DoorError::invalid("the command is not readable as Flight SQL");
    let any = Any::decode(bytes).map_err(|_| unreadable())?;
    Command::try_from(any).map_err(|_| unreadable())
}

fn unknown_command(_: &Any) -> DoorError {
    DoorError::Unsupported("this command is none of Flight SQL's that are answered here")
}

fn no_transaction(id: Option<&[u8]>) -> Result<(), DoorError> {
    match id {
        None | Some([]) => Ok(()),
        Some(_) => Err(DoorError::Unsupported(TRANSACTIONS)),
    }
}

fn transactions() -> DoorError {
    DoorError::Unsupported(TRANSACTIONS)
}

fn substrait() -> DoorError {
    DoorError::Unsupported(SUBSTRAIT)
}

/// Hands out a session cookie; its value, unless the system has no randomness.
fn give_cookie(metadata: &mut MetadataMap) -> Option<String> {
    let cookie = fresh_cookie()?;
    metadata.insert("set-cookie", cookie.header().parse().ok()?);
    Some(cookie.id)
}

fn new_query_id() -> Result<QueryId, DoorError> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| DoorError::internal("name a query", &NoRandomness))?;
    format!("q-{}", hex::encode(bytes))
        .parse()
        .map_err(|e| DoorError::internal("name a query", &e))
}
