//! What an honest gateway does over the products of a node: it plans, is granted, and sends.

use super::{GATEWAY, NODE, TestNode};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;
use guildhall_client::arrow_message::{decode_batch, decode_schema};
use guildhall_grant::product::Product;
use guildhall_grant::{Grant, GrantedProduct, envelope};
use guildhall_model::{Clock, Digest, OutputClass, ReleaseClass};
use guildhall_plan::adhoc::Lane;
use guildhall_plan::profile;
use guildhall_plan::session::{bare_state, base_config};
use guildhall_proto::envelope::v1::Envelope;
use guildhall_proto::node::v1::RunRequest;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::Status;

impl TestNode {
    pub(crate) fn product(&self, name: &str) -> &Product {
        &self.products[name]
    }

    /// A gateway's session over every product of the node.
    pub(crate) fn gateway(&self) -> SessionState {
        let state = bare_state(base_config());
        let schema = MemorySchemaProvider::new();
        for (name, product) in &self.products {
            let bytes = arrow::buffer::Buffer::from_vec(product.arrow_schema.clone());
            let columns = arrow::ipc::convert::try_schema_from_ipc_buffer(&bytes).unwrap();
            schema
                .register_table(name.clone(), Arc::new(EmptyTable::new(Arc::new(columns))))
                .unwrap();
        }
        let catalog = MemoryCatalogProvider::new();
        catalog
            .register_schema("parking", Arc::new(schema))
            .unwrap();
        state
            .catalog_list()
            .register_catalog("northmoor".to_owned(), Arc::new(catalog));
        state
    }

    pub(crate) async fn plan(&self, sql: &str) -> LogicalPlan {
        self.gateway().create_logical_plan(sql).await.unwrap()
    }

    /// A fragment as an honest gateway writes it: optimised rows, or the canonical plan of a cube.
    pub(crate) async fn fragment(&self, sql: &str) -> Vec<u8> {
        let (state, plan) = (self.gateway(), self.plan(sql).await);
        let reads = profile::reads(&plan).unwrap();
        let product = self.product(reads[0].product.product.as_str());
        if product.class != ReleaseClass::Aggregate {
            return profile::encode(&state.optimize(&plan).unwrap(), &state).unwrap();
        }
        let mut aggregate = &plan;
        while let LogicalPlan::Projection(p) = aggregate {
            aggregate = p.input.as_ref();
        }
        let (lane, schema) = self.lane(aggregate, product);
        let plan = match lane {
            Lane::Cube(query) => query.canonical_plan(&schema),
            Lane::AdHoc(query) => query.canonical_plan(&schema),
        };
        profile::encode(&plan.unwrap(), &state).unwrap()
    }

    /// The lane of an aggregation over `product`, and the columns of its view, as an honest gateway has them.
    fn lane(
        &self,
        aggregate: &LogicalPlan,
        product: &Product,
    ) -> (Lane, arrow::datatypes::SchemaRef) {
        let budget = product.budget(&"transport_planning".parse().unwrap());
        let lane = guildhall_plan::adhoc::lane(aggregate, product, budget).unwrap();
        let bytes = arrow::buffer::Buffer::from_vec(product.arrow_schema.clone());
        let schema = arrow::ipc::convert::try_schema_from_ipc_buffer(&bytes).unwrap();
        (lane, Arc::new(schema))
    }

    /// What an honest gateway tells of the columns of the answer to `sql`, before it asks.
    pub(crate) async fn told(&self, sql: &str) -> Vec<[(String, String); 2]> {
        let plan = self.plan(sql).await;
        let reads = profile::reads(&plan).unwrap();
        let product = self.product(reads[0].product.product.as_str());
        let mut aggregate = &plan;
        while let LogicalPlan::Projection(p) = aggregate {
            aggregate = p.input.as_ref();
        }
        let budget = product.budget(&"transport_planning".parse().unwrap());
        let (lane, schema) = self.lane(aggregate, product);
        let told = match lane {
            Lane::Cube(query) => query.told(product),
            Lane::AdHoc(query) => query.told(product, &schema, budget.unwrap()).unwrap(),
        };
        told.into_iter().map(|t| t.metadata()).collect()
    }

    /// A grant for just what `fragment` reads.
    pub(crate) fn grant(&self, fragment: &[u8], output: OutputClass) -> Grant {
        let plan = profile::decode(fragment, &self.gateway(), &Default::default()).unwrap();
        let products = profile::reads(&plan).unwrap();
        let products = products
            .into_iter()
            .map(|r| GrantedProduct {
                department: r.product.department,
                version: self.product(r.product.product.as_str()).version,
                product: r.product.product,
                columns: r.columns,
            })
            .collect();
        let number = self.grants.fetch_add(1, Ordering::SeqCst);
        Grant {
            id: format!("g-{number}").parse().unwrap(),
            council: "northmoor".parse().unwrap(),
            principal: guildhall_model::Principal {
                council: "northmoor".parse().unwrap(),
                name: "ana".parse().unwrap(),
            },
            purpose: "transport_planning".parse().unwrap(),
            node: NODE.parse().unwrap(),
            fragment: Digest::of(fragment),
            products,
            output,
            recipient: GATEWAY.parse().unwrap(),
            charge: 0,
            not_before: self.clock.now(),
            expires: self.clock.now().after(Duration::from_secs(300)),
            query: format!("q-{number}").parse().unwrap(),
            gateway: GATEWAY.parse().unwrap(),
            linkage: None,
        }
    }

    pub(crate) fn sign(&self, grant: &Grant) -> Envelope {
        envelope::sign(grant, &self.council)
    }

    /// Sends a fragment under a grant, as the gateway; gives what leaves.
    pub(crate) async fn send(&self, grant: &Grant, fragment: &[u8]) -> Result<RecordBatch, Status> {
        self.send_as(GATEWAY, self.sign(grant), fragment).await
    }

    pub(crate) async fn send_as(
        &self,
        peer: &str,
        grant: Envelope,
        fragment: &[u8],
    ) -> Result<RecordBatch, Status> {
        let request = RunRequest {
            grant: Some(grant),
            fragment: fragment.to_vec().into(),
            cell_status: self.cell_status,
        };
        let answer = self.runner.answer(&peer.parse().unwrap(), request).await?;
        let messages: Vec<_> = answer.try_collect().await?;
        let schema = decode_schema(&messages[0]).unwrap();
        let batches: Vec<_> = messages[1..]
            .iter()
            .map(|m| decode_batch(&schema, m).unwrap())
            .collect();
        Ok(concat_batches(&schema, &batches).unwrap())
    }

    /// Asks honestly for rows.
    pub(crate) async fn rows(&self, sql: &str) -> Result<String, Status> {
        let fragment = self.fragment(sql).await;
        self.send(&self.grant(&fragment, OutputClass::OpenRows), &fragment)
            .await
            .map(|b| table(&b))
    }

    /// Asks honestly for cells.
    pub(crate) async fn cells(&self, sql: &str) -> Result<String, Status> {
        let fragment = self.fragment(sql).await;
        self.send(
            &self.grant(&fragment, OutputClass::ReleasedCells),
            &fragment,
        )
        .await
        .map(|b| table(&b))
    }
}

pub(crate) fn table(batch: &RecordBatch) -> String {
    pretty_format_batches(std::slice::from_ref(batch))
        .unwrap()
        .to_string()
}
