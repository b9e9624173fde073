//! The door for analysts: Flight SQL.
//!
//! Every RPC but the handshake starts with [`Check::caller`], whose [`Caller`] everything below
//! asks for, so that a call without a credential gets no further. Flight's own trait is
//! implemented rather than arrow-flight's `FlightSqlService`, which has no place for GetSchema,
//! PollFlightInfo and typed refusals.
//!
//! What a client is handed (tickets, handles) is sealed and its own; a ticket is good without
//! the prepared statement it came from, and on any connection of the same principal.

use crate::action_call;
use crate::credential::{Caller, Check, basic, token_text};
use crate::encode::schema_bytes;
use crate::engine::{Engine, Parsed, Reply};
use crate::error::DoorError;
use crate::metadata::{self, ServerLimits};
use crate::parameters;
use crate::seal::{Kind, Sealer};
use crate::session::{Options, SessionRef, Sessions, Setting, fresh_cookie};
use crate::ticket::{self, Content, SettingValue, Settings};
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionCreatePreparedStatementResult, Any, Command, DoPutPreparedStatementResult,
    DoPutUpdateResult, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use guildhall_identity::remote_of;
use guildhall_model::{CouncilName, QueryId, SharedClock, Timestamp};
use prost::Message;
use ring::rand::{SecureRandom, SystemRandom};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

pub(crate) type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send + 'static>>;

const READ_ONLY: &str =
    "this server is read-only: it answers SELECT, EXPLAIN, SHOW and SET guildhall.*";
const TRANSACTIONS: &str = "there are no transactions: every statement reads, and stands alone";
const SUBSTRAIT: &str = "Substrait plans are not taken at this door\nhelp: send SQL";
// A client that neither sends a header nor a first message within this gets no handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

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
        let answer = action_call::act(&self.0, &call, request.into_inner()).await?;
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
        let actions = action_call::OFFERED.iter().map(|(name, description)| {
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
        let caller = self.check.caller(request)?;
        let session = SessionRef::of(&caller, request.metadata(), remote_of(request));
        let options = self.sessions.options(&session, request.metadata()).await?;
        Ok(Call {
            caller,
            options,
            has_cookie: session.has_cookie(),
            session,
        })
    }

    async fn sign_in(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<String, DoorError> {
        let Some(given) = basic(request.metadata())? else {
            // Somebody who shows a token or certificate already needs no other.
            return match self.check.caller(&request) {
                Ok(caller) => Ok(caller.token_text().unwrap_or_default()),
                Err(DoorError::NoCredential) => {
                    // Flight's older handshake sends name and password in its first message.
                    let first =
                        tokio::time::timeout(HANDSHAKE_WITHIN, request.into_inner().message())
                            .await;
                    let Ok(Ok(Some(first))) = first else {
                        return Err(DoorError::NoCredential);
                    };
                    let given = arrow_flight::BasicAuth::decode(first.payload)
                        .map_err(|_| DoorError::NoCredential)?;
                    self.trade(&given.username, &given.password).await
                }
                Err(e) => Err(e),
            };
        };
        // A token as the password of any name signs in as itself.
        if let Ok(caller) = self.check.caller(&request) {
            return Ok(caller.token_text().unwrap_or_default());
        }
        self.trade(&given.name, &given.password).await
    }

    async fn trade(&self, account: &str, password: &str) -> Result<String, DoorError> {
        let (account, council) = match account.rsplit_once('@') {
            Some((account, council)) => match council.parse::<CouncilName>() {
                Ok(council) if self.engine.knows(&council) => (account, council),
                _ => return Err(DoorError::WrongPassword),
            },
            None => (account, self.default_council.clone()),
        };
        let token = self.engine.sign_in(&council, account, password).await?;
        Ok(token_text(&token))
    }

    /// The FlightInfo of a command. With `apply`, a SET statement takes effect; the second value
    /// says that it did.
    async fn info(
        &self,
        call: &Call,
        descriptor: FlightDescriptor,
        apply: bool,
    ) -> Result<(FlightInfo, bool), Status> {
        let query = new_query_id()?;
        let done = self.info_for(call, &query, &descriptor, apply).await;
        let (schema, content, was_set) = done.map_err(|e| e.about(&query))?;
        let info = self
            .flight_info(call, &query, descriptor, &schema, content)
            .map_err(|e| e.about(&query))?;
        Ok((info, was_set))
    }

    async fn info_for(
        &self,
        call: &Call,
        query: &QueryId,
        descriptor: &FlightDescriptor,
        apply: bool,
    ) -> Result<(SchemaRef, Content, bool), DoorError> {
        if descriptor.r#type != DescriptorType::Cmd as i32 {
            return Err(DoorError::invalid(
                "the descriptor is no Flight SQL command",
            ));
        }
        let statement = match command(&descriptor.cmd)? {
            Command::CommandStatementQuery(c) => {
                no_transaction(c.transaction_id.as_deref())?;
                ticket::Statement {
                    sql: c.query,
                    ..Default::default()
                }
            }
            Command::CommandPreparedStatementQuery(c) => {
                self.open_handle(call, &c.prepared_statement_handle)?
            }
            Command::CommandStatementSubstraitPlan(_) => {
                return Err(DoorError::Unsupported(SUBSTRAIT));
            }
            Command::Unknown(any) => return Err(unknown_command(&any)),
            other => {
                let schema = self.metadata_batch(other, &[])?.schema();
                let metadata = ticket::Metadata {
                    command: descriptor.cmd.clone(),
                    purpose: call.options.show(Setting::Purpose),
                };
                return Ok((schema, Content::Metadata(metadata), false));
            }
        };
        self.statement_info(call, query, statement, apply).await
    }

    async fn statement_info(
        &self,
        call: &Call,
        query: &QueryId,
        mut statement: ticket::Statement,
        apply: bool,
    ) -> Result<(SchemaRef, Content, bool), DoorError> {
        let parsed = self.engine.parse(&statement.sql)?;
        if let Parsed::Set { name, value } = &parsed {
            let settings = if apply {
                self.set(call, name, value).await?
            } else {
                self.would_set(call, name, value).await?
            };
            return Ok((settings_schema(), Content::Settings(settings), apply));
        }
        if let Parsed::Show { name } = &parsed {
            return Ok((
                settings_schema(),
                Content::Settings(show(call, name)?),
                false,
            ));
        }
        statement.partial |= call.options.partial;
        let fallback = statement.purpose.parse().ok();
        let wanted = call.options.purpose.clone().or(fallback);
        let schema = self
            .engine
            .describe(call, query, &parsed, wanted, &mut statement)
            .await?;
        Ok((schema, Content::Statement(statement), false))
    }

    fn flight_info(
        &self,
        call: &Call,
        query: &QueryId,
        descriptor: FlightDescriptor,
        schema: &SchemaRef,
        content: Content,
    ) -> Result<FlightInfo, DoorError> {
        let expires = self.clock.now().after(self.engine.limits().ticket_life());
        let endpoint = self.endpoint(
            call,
            &ticket::Ticket {
                query: query.to_string(),
                content: Some(content),
            },
            expires,
        );
        let schema = schema_bytes(schema).map_err(|e| DoorError::internal("write a schema", &e))?;
        Ok(FlightInfo {
            schema,
            flight_descriptor: Some(descriptor),
            endpoint: vec![endpoint],
            total_records: -1,
            total_bytes: -1,
            ordered: true,
            app_metadata: query.to_string().into(),
        })
    }

    /// One endpoint without a location: the client fetches where it asked.
    pub(crate) fn endpoint(
        &self,
        call: &Call,
        ticket: &ticket::Ticket,
        expires: Timestamp,
    ) -> FlightEndpoint {
        let sealed = self.sealer.seal(
            Kind::Ticket,
            &call.caller.principal,
            expires,
            &ticket.encode_to_vec(),
        );
        let ticket = TicketStatementQuery {
            statement_handle: sealed.into(),
        };
        FlightEndpoint {
            ticket: Some(Ticket {
                ticket: ticket.as_any().encode_to_vec().into(),
            }),
            location: Vec::new(),
            expiration_time: Some(prost_time(expires)),
            app_metadata: Default::default(),
        }
    }

    /// What a ticket of this principal's holds.
    pub(crate) fn open_ticket(
        &self,
        call: &Call,
        ticket: &[u8],
    ) -> Result<(QueryId, Content), DoorError> {
        let not_yours = || crate::seal::SealError::NotYours(Kind::Ticket);
        let any = Any::decode(ticket).map_err(|_| not_yours())?;
        let outer = any
            .unpack::<TicketStatementQuery>()
            .ok()
            .flatten()
            .ok_or_else(not_yours)?;
        let plain = self.sealer.open(
            Kind::Ticket,
            &call.caller.principal,
            self.clock.now(),
            &outer.statement_handle,
        )?;
        let ticket = ticket::Ticket::decode(plain.as_slice()).map_err(|_| not_yours())?;
        let query = ticket.query.parse().map_err(|_| not_yours())?;
        Ok((query, ticket.content.ok_or_else(not_yours)?))
    }

    /// What a prepared handle of this principal's holds.
    pub(crate) fn open_handle(
        &self,
        call: &Call,
        handle: &[u8],
    ) -> Result<ticket::Statement, DoorError> {
        let plain = self.sealer.open(
            Kind::Handle,
            &call.caller.principal,
            self.clock.now(),
            handle,
        )?;
        ticket::Statement::decode(plain.as_slice())
            .map_err(|_| crate::seal::SealError::NotYours(Kind::Handle).into())
    }

    fn seal_handle(&self, call: &Call, statement: &ticket::Statement) -> Vec<u8> {
        let expires = self.clock.now().after(self.engine.limits().handle_life());
        self.sealer.seal(
            Kind::Handle,
            &call.caller.principal,
            expires,
            &statement.encode_to_vec(),
        )
    }

    async fn result(&self, call: &Call, ticket: &[u8]) -> Result<Reply, Status> {
        let (query, content) = self.open_ticket(call, ticket)?;
        let done = match content {
            Content::Statement(statement) => self.engine.run(call, &query, &statement).await,
            Content::Settings(settings) => {
                settings_batch(&settings).map(one_batch).map(Reply::whole)
            }
            Content::Metadata(metadata) => self
                .browse(call, &metadata)
                .await
                .map(one_batch)
                .map(Reply::whole),
        };
        done.map_err(|e| e.about(&query))
    }

    async fn browse(
        &self,
        call: &Call,
        metadata: &ticket::Metadata,
    ) -> Result<RecordBatch, DoorError> {
        let command = command(&metadata.command)?;
        let listed = match &command {
            Command::CommandGetCatalogs(_)
            | Command::CommandGetDbSchemas(_)
            | Command::CommandGetTables(_) => {
                self.engine
                    .listed(&call.caller, metadata.purpose.parse().ok())
                    .await?
            }
            _ => Vec::new(),
        };
        self.metadata_batch(command, &listed)
    }

    fn metadata_batch(
        &self,
        command: Command,
        listed: &[metadata::Listed],
    ) -> Result<RecordBatch, DoorError> {
        let batch = match command {
            Command::CommandGetCatalogs(_) => metadata::catalogs(listed),
            Command::CommandGetDbSchemas(c) => metadata::schemas(c, listed),
            Command::CommandGetTables(c) => metadata::tables(c, listed),
            Command::CommandGetTableTypes(_) => metadata::table_types(),
            Command::CommandGetSqlInfo(c) => metadata::sql_info(c, self.server_limits()),
            Command::CommandGetXdbcTypeInfo(c) => metadata::xdbc_type_info(c),
            Command::CommandGetPrimaryKeys(_) => Ok(metadata::primary_keys()),
            Command::CommandGetExportedKeys(_)
            | Command::CommandGetImportedKeys(_)
            | Command::CommandGetCrossReference(_) => Ok(metadata::foreign_keys()),
            Command::CommandStatementUpdate(_)
            | Command::CommandPreparedStatementUpdate(_)
            | Command::CommandStatementIngest(_) => return Err(DoorError::Unsupported(READ_ONLY)),
            _ => return Err(DoorError::invalid("this command has no result to fetch")),
        };
        batch.map_err(|e| DoorError::internal("answer a metadata command", &e))
    }

    fn server_limits(&self) -> ServerLimits {
        let limits = self.engine.limits();
        ServerLimits {
            statement: i64::try_from(limits.statement_bytes).unwrap_or(0),
            handle_ms: i32::try_from(limits.handle_life().as_millis()).unwrap_or(0),
            statements: i64::try_from(limits.queries_per_principal).unwrap_or(0),
        }
    }

    /// CreatePreparedStatement: plans, runs nothing, and tells a wrong statement's author.
    pub(crate) async fn prepare(
        &self,
        call: &Call,
        sql: String,
    ) -> Result<ActionCreatePreparedStatementResult, DoorError> {
        let mut statement = ticket::Statement {
            sql,
            ..Default::default()
        };
        let parsed = self.engine.parse(&statement.sql)?;
        let (schema, taken) = match &parsed {
            Parsed::Set { name, value } => {
                self.would_set(call, name, value).await?;
                (settings_schema(), Arc::new(Schema::empty()))
            }
            Parsed::Show { name } => {
                show(call, name)?;
                (settings_schema(), Arc::new(Schema::empty()))
            }
            Parsed::Query(_) => {
                let wanted = call.options.purpose.clone();
                let prepared = self
                    .engine
                    .prepare(call, &parsed, wanted, &mut statement)
                    .await?;
                (prepared.schema.clone(), prepared.parameters.clone())
            }
        };
        statement.partial = call.options.partial;
        let bytes =
            |s: &SchemaRef| schema_bytes(s).map_err(|e| DoorError::internal("write a schema", &e));
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: self.seal_handle(call, &statement).into(),
            dataset_schema: bytes(&schema)?,
            parameter_schema: bytes(&taken)?,
        })
    }

    async fn put(
        &self,
        call: &Call,
        mut messages: Streaming<FlightData>,
    ) -> Result<Vec<u8>, Status> {
        let query = new_query_id()?;
        let Some(first) = messages.message().await? else {
            return Err(DoorError::invalid("nothing was put").about(&query));
        };
        self.put_first(call, first, messages)
            .await
            .map_err(|e| e.about(&query))
    }

    async fn put_first(
        &self,
        call: &Call,
        first: FlightData,
        rest: Streaming<FlightData>,
    ) -> Result<Vec<u8>, DoorError> {
        let descriptor = first
            .flight_descriptor
            .clone()
            .ok_or_else(|| DoorError::invalid("the first message has no descriptor"))?;
        match command(&descriptor.cmd)? {
            Command::CommandPreparedStatementQuery(c) => {
                let statement = self.open_handle(call, &c.prepared_statement_handle)?;
                self.bind(call, statement, first, rest).await
            }
            Command::CommandStatementUpdate(c) => {
                no_transaction(c.transaction_id.as_deref())?;
                self.update(call, &c.query).await
            }
            Command::CommandPreparedStatementUpdate(c) => {
                let statement = self.open_handle(call, &c.prepared_statement_handle)?;
                self.update(call, &statement.sql).await
            }
            Command::CommandStatementIngest(_) => Err(DoorError::Unsupported(READ_ONLY)),
            Command::CommandStatementSubstraitPlan(_) => Err(DoorError::Unsupported(SUBSTRAIT)),
            Command::Unknown(any) => Err(unknown_command(&any)),
            _ => Err(DoorError::invalid("this command takes no data")),
        }
    }

    /// Binds rows of parameters: the answer is a new handle that holds them, so that nothing is
    /// kept here and two clients with one statement never share a value.
    async fn bind(
        &self,
        call: &Call,
        mut statement: ticket::Statement,
        first: FlightData,
        rest: Streaming<FlightData>,
    ) -> Result<Vec<u8>, DoorError> {
        let limits = *self.engine.limits();
        let messages = stream::iter([Ok(first)])
            .chain(rest)
            .map_err(arrow_flight::error::FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
        let unreadable = |_| DoorError::invalid("the parameters are not readable as Arrow batches");
        let (mut kept, mut rows, mut bytes) = (Vec::new(), 0, 0);
        while let Some(batch) = batches.try_next().await.map_err(unreadable)? {
            rows += batch.num_rows();
            bytes += batch.get_array_memory_size();
            if rows > limits.parameter_rows || bytes > limits.parameter_bytes.saturating_mul(4) {
                return Err(too_many_parameters(&limits));
            }
            kept.push(batch);
        }
        statement.parameters = match kept.first().map(RecordBatch::schema) {
            Some(schema) => Some(parameters::encode(&kept, &schema)?),
            None => None,
        };
        if statement
            .parameters
            .as_ref()
            .is_some_and(|p| p.len() > limits.parameter_bytes)
        {
            return Err(too_many_parameters(&limits));
        }
        let handle = self.seal_handle(call, &statement);
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(handle.into()),
        }
        .encode_to_vec())
    }

    async fn update(&self, call: &Call, sql: &str) -> Result<Vec<u8>, DoorError> {
        match self.engine.parse(sql)? {
            Parsed::Set { name, value } => {
                self.set(call, &name, &value).await?;
                Ok(DoPutUpdateResult { record_count: 0 }.encode_to_vec())
            }
            Parsed::Show { .. } | Parsed::Query(_) => Err(DoorError::invalid(
                "the statement returns rows\nhelp: ask for it as a query, not as an update",
            )),
        }
    }

    /// Changes a session option, once the value is known to be one the caller may have.
    pub(crate) async fn set(
        &self,
        call: &Call,
        name: &str,
        value: &str,
    ) -> Result<Settings, DoorError> {
        let (setting, options) = self.checked(call, name, value).await?;
        self.sessions.keep(&call.session, options.clone()).await;
        Ok(one_setting(setting, &options))
    }

    async fn would_set(&self, call: &Call, name: &str, value: &str) -> Result<Settings, DoorError> {
        let (setting, options) = self.checked(call, name, value).await?;
        Ok(one_setting(setting, &options))
    }

    async fn checked(
        &self,
        call: &Call,
        name: &str,
        value: &str,
    ) -> Result<(Setting, Options), DoorError> {
        let setting = Setting::find(name).ok_or_else(|| no_setting(name))?;
        let mut options = self.sessions.stored(&call.session).await;
        options.set(setting, value)?;
        if let (Setting::Purpose, Some(purpose)) = (setting, &options.purpose) {
            self.engine.holds(&call.caller, purpose).await?;
        }
        Ok((setting, options))
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

pub(crate) fn no_transaction(id: Option<&[u8]>) -> Result<(), DoorError> {
    match id {
        None | Some([]) => Ok(()),
        Some(_) => Err(DoorError::Unsupported(TRANSACTIONS)),
    }
}

pub(crate) fn transactions() -> DoorError {
    DoorError::Unsupported(TRANSACTIONS)
}

pub(crate) fn substrait() -> DoorError {
    DoorError::Unsupported(SUBSTRAIT)
}

fn too_many_parameters(limits: &crate::config::Limits) -> DoorError {
    DoorError::TooMuch {
        message: format!(
            "more parameters than one execution takes: {} rows and {} bytes",
            limits.parameter_rows, limits.parameter_bytes
        ),
    }
}

fn no_setting(name: &str) -> DoorError {
    let known = Setting::ALL.map(Setting::name).join("`, `");
    let name: String = name.chars().take(64).collect();
    DoorError::invalid(format!(
        "there is no setting `{name}`\nhelp: there are `{known}`"
    ))
}

fn show(call: &Call, name: &str) -> Result<Settings, DoorError> {
    if name.is_empty() {
        let values = Setting::ALL
            .into_iter()
            .map(|s| value_of(s, &call.options))
            .collect();
        return Ok(Settings { values });
    }
    let setting = Setting::find(name).ok_or_else(|| no_setting(name))?;
    Ok(one_setting(setting, &call.options))
}

fn one_setting(setting: Setting, options: &Options) -> Settings {
    Settings {
        values: vec![value_of(setting, options)],
    }
}

fn value_of(setting: Setting, options: &Options) -> SettingValue {
    SettingValue {
        name: setting.name().to_owned(),
        value: options.show(setting),
    }
}

fn settings_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("value", DataType::Utf8, true),
    ]))
}

fn settings_batch(settings: &Settings) -> Result<RecordBatch, DoorError> {
    let names = StringArray::from_iter_values(settings.values.iter().map(|v| &v.name));
    let values = StringArray::from_iter_values(settings.values.iter().map(|v| &v.value));
    RecordBatch::try_new(settings_schema(), vec![Arc::new(names), Arc::new(values)])
        .map_err(|e| DoorError::internal("answer a setting", &e))
}

/// A stream of one batch, in its own schema.
fn one_batch(batch: RecordBatch) -> Answer<FlightData> {
    let schema = crate::encode::schema_message(&batch.schema());
    let mut encoder = crate::encode::Encoder::new(batch.schema());
    let rows = encoder.push(&batch).and_then(|mut messages| {
        messages.extend(encoder.flush()?);
        Ok(messages)
    });
    match rows {
        Ok(rows) => Box::pin(stream::iter(std::iter::once(schema).chain(rows).map(Ok))),
        Err(e) => {
            let error = DoorError::internal("write a batch", &e);
            Box::pin(stream::iter([Err(error.into())]))
        }
    }
}

/// Hands out a session cookie; its value, unless the system has no randomness.
fn give_cookie(metadata: &mut MetadataMap) -> Option<String> {
    let cookie = fresh_cookie()?;
    metadata.insert("set-cookie", cookie.header().parse().ok()?);
    Some(cookie.id)
}

pub(crate) fn new_query_id() -> Result<QueryId, DoorError> {
    let mut bytes = [0; 8];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| DoorError::internal("name a query", &crate::seal::NoRandomness))?;
    format!("q-{}", hex::encode(bytes))
        .parse()
        .map_err(|e| DoorError::internal("name a query", &e))
}

fn prost_time(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.as_micros().rem_euclid(1_000_000);
    prost_types::Timestamp {
        seconds: at.as_seconds(),
        nanos: i32::try_from(micros).unwrap_or(0).saturating_mul(1000),
    }
}
