//! What a command will answer, and the sealed ticket to fetch it with.

use super::settings::{settings_schema, show};
use super::{Call, Inner, SUBSTRAIT, command, new_query_id, no_transaction, unknown_command};
use crate::encode::schema_bytes;
use crate::engine::Parsed;
use crate::error::DoorError;
use crate::seal::{Kind, SealError};
use crate::session::Setting;
use crate::ticket::{self, Content};
use arrow::datatypes::SchemaRef;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use guildhall_model::{QueryId, Timestamp};
use prost::Message;
use tonic::Status;

impl Inner {
    /// The FlightInfo of a command. With `apply`, a SET statement takes effect; the second value
    /// says that it did.
    pub(super) async fn info(
        &self,
        call: &Call,
        descriptor: FlightDescriptor,
        apply: bool,
    ) -> Result<(FlightInfo, bool), Status> {
        let query = new_query_id()?;
        let done = self.info_for(call, &query, &descriptor, apply).await;
        let done = self.engine.noted(&call.caller, done);
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
                    cell_status: call.options.cell_status,
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
    pub(super) fn endpoint(
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
    pub(super) fn open_ticket(
        &self,
        call: &Call,
        ticket: &[u8],
    ) -> Result<(QueryId, Content), DoorError> {
        let not_yours = || SealError::NotYours(Kind::Ticket);
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
    pub(super) fn open_handle(
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
            .map_err(|_| SealError::NotYours(Kind::Handle).into())
    }

    pub(super) fn seal_handle(&self, call: &Call, statement: &ticket::Statement) -> Vec<u8> {
        let expires = self.clock.now().after(self.engine.limits().handle_life());
        self.sealer.seal(
            Kind::Handle,
            &call.caller.principal,
            expires,
            &statement.encode_to_vec(),
        )
    }
}

fn prost_time(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.as_micros().rem_euclid(1_000_000);
    prost_types::Timestamp {
        seconds: at.as_seconds(),
        nanos: i32::try_from(micros).unwrap_or(0).saturating_mul(1000),
    }
}
