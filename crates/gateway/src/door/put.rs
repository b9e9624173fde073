//! Prepared statements, their parameters, and what comes by DoPut.

use super::settings::{settings_schema, show};
use super::{
    Call, Inner, READ_ONLY, SUBSTRAIT, command, new_query_id, no_transaction, unknown_command,
};
use crate::config::Limits;
use crate::encode::schema_bytes;
use crate::engine::Parsed;
use crate::error::DoorError;
use crate::parameters;
use crate::ticket;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    ActionCreatePreparedStatementResult, Command, DoPutPreparedStatementResult, DoPutUpdateResult,
};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;
use std::sync::Arc;
use tonic::{Status, Streaming};

impl Inner {
    /// CreatePreparedStatement: plans, runs nothing, and tells a wrong statement's author.
    pub(super) async fn prepare(
        &self,
        call: &Call,
        sql: String,
    ) -> Result<ActionCreatePreparedStatementResult, DoorError> {
        let mut statement = ticket::Statement {
            sql,
            cell_status: call.options.cell_status,
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

    pub(super) async fn put(
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
            .map_err(FlightError::from);
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
}

fn too_many_parameters(limits: &Limits) -> DoorError {
    DoorError::TooMuch {
        message: format!(
            "more parameters than one execution takes: {} rows and {} bytes",
            limits.parameter_rows, limits.parameter_bytes
        ),
    }
}
