//! Graphs: recorded work that is launched as a whole.

use std::ffi::{c_uint, c_ulonglong};
use std::sync::Arc;

use super::call::refuse;
use super::error::{CudaError, Result};
use super::exports;
use super::ffi::{Handle, Out};
use super::objects::{Executable, Graph};
use super::queue::submit;
use super::state::{State, enter, lock};
use super::work::Work;

impl State {
    fn instantiate(&mut self, graph: Handle) -> Result<Handle> {
        let Graph { context, nodes } = self.graphs.get(&graph).ok_or(CudaError::InvalidHandle)?;
        let executable = Executable { context: *context, nodes: Arc::new(nodes.clone()) };
        let handle = self.new_handle();
        self.executables.insert(handle, executable);
        Ok(handle)
    }
}

exports! {
    fn cuGraphCreate(graph: Out<Handle>, flags: c_uint) {
        let (mut state, context) = enter()?;
        if flags != 0 {
            return Err(CudaError::InvalidValue);
        }
        let handle = state.new_handle();
        state.graphs.insert(handle, Graph { context, nodes: Vec::new() });
        graph.put(handle)
    }

    fn cuGraphInstantiateWithFlags(executable: Out<Handle>, graph: Handle, _flags: c_ulonglong) {
        let (mut state, _) = enter()?;
        executable.put(state.instantiate(graph)?)
    }

    fn cuGraphUpload(executable: Handle, stream: Handle) {
        let (mut state, context) = enter()?;
        state.resolve_stream(context, stream)?;
        state.executables.get(&executable).map(|_| ()).ok_or(CudaError::InvalidHandle)
    }

    fn cuGraphLaunch(executable: Handle, stream: Handle) {
        let (mut state, context) = enter()?;
        let stream = state.resolve_stream(context, stream)?;
        let found = state.executables.get(&executable).ok_or(CudaError::InvalidHandle)?;
        if found.context != context {
            return Err(CudaError::InvalidContext);
        }
        let nodes = Arc::clone(&found.nodes);
        submit(state, context, stream, Work::Graph(nodes)).map(drop)
    }

    fn cuGraphExecUpdate_v2(_executable: Handle, _graph: Handle, _info: Out<u64>) {
        Err(refuse(CudaError::NotSupported, "the simulator does not update instantiated graphs: instantiate anew"))
    }

    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let state = lock()?;
        let graph = state.graphs.get(&graph).ok_or(CudaError::InvalidHandle)?;
        if !nodes.is_null() {
            return Err(refuse(CudaError::NotSupported, "the simulator counts nodes, but gives no handles of them"));
        }
        count.put(graph.nodes.len())
    }

    fn cuGraphExecDestroy(executable: Handle) {
        // What was launched has its nodes.
        lock()?.executables.remove(&executable).map(drop).ok_or(CudaError::InvalidHandle)
    }

    fn cuGraphDestroy(graph: Handle) {
        lock()?.graphs.remove(&graph).map(drop).ok_or(CudaError::InvalidHandle)
    }
}
