//! Results, for tickets.

use super::settings::settings_schema;
use super::{Answer, Call, Inner, READ_ONLY, command};
use crate::encode::{Encoder, schema_message};
use crate::engine::Reply;
use crate::error::DoorError;
use crate::metadata::{self, ServerLimits};
use crate::ticket::{self, Content, Settings};
use arrow::array::{RecordBatch, StringArray};
use arrow_flight::FlightData;
use arrow_flight::sql::Command;
use futures::stream;
use std::sync::Arc;
use tonic::Status;

impl Inner {
    pub(super) async fn result(&self, call: &Call, ticket: &[u8]) -> Result<Reply, Status> {
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
        let done = self.engine.noted(&call.caller, done);
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

    pub(super) fn metadata_batch(
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
}

fn settings_batch(settings: &Settings) -> Result<RecordBatch, DoorError> {
    let names = StringArray::from_iter_values(settings.values.iter().map(|v| &v.name));
    let values = StringArray::from_iter_values(settings.values.iter().map(|v| &v.value));
    RecordBatch::try_new(settings_schema(), vec![Arc::new(names), Arc::new(values)])
        .map_err(|e| DoorError::internal("answer a setting", &e))
}

/// A stream of one batch, in its own schema.
fn one_batch(batch: RecordBatch) -> Answer<FlightData> {
    let schema = schema_message(&batch.schema());
    let mut encoder = Encoder::new(batch.schema());
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
