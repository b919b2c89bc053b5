//! The two tasks of a link: one reads frames into the event loop, one writes the loop's frames; both bounded.

use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::task::TaskTracker;
use waypost_link::{FrameReader, FrameWriter, Link, LinkError};

use crate::node::{ConversationId, NodeEvent};

/// Frames that wait to be written; the engine is not asked for more while they do.
pub(crate) const OUT_FRAMES: usize = 4;

/// How long the last frames may take to leave after a conversation has ended.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long a link that takes nothing any more is read.
const READ_ON: Duration = Duration::from_secs(10);

/// The loop's ends of a link's tasks. Dropping it ends both.
pub(crate) struct LinkTasks {
    out: Option<mpsc::Sender<Bytes>>,
    go_on: mpsc::Sender<()>,
    reader: JoinHandle<()>,
    writer: AbortHandle,
}

impl LinkTasks {
    /// `writers` knows of the one that may have last words to write after this was dropped.
    pub(crate) fn spawn(
        id: ConversationId,
        link: Link,
        events: mpsc::Sender<NodeEvent>,
        writers: &TaskTracker,
    ) -> Self {
        let (out, frames) = mpsc::channel(OUT_FRAMES);
        // One permit: the reader has one frame in the loop, and reads the next while that is handled.
        let (go_on, permits) = mpsc::channel(1);
        let reader = tokio::spawn(read(id, link.reader, permits, events.clone()));
        let writer = writers.spawn(write(id, link.writer, frames, events)).abort_handle();
        LinkTasks { out: Some(out), go_on, reader, writer }
    }

    /// How many more frames the writer takes.
    pub(crate) fn room(&self) -> usize {
        self.out.as_ref().map_or(0, mpsc::Sender::capacity)
    }

    /// Hands a frame to the writer; there must be [`LinkTasks::room`].
    pub(crate) fn send(&self, frame: Vec<u8>) {
        if let Some(out) = &self.out {
            // Without room or without a writer the link is on its way down, which the reader reports.
            let _ = out.try_send(frame.into());
        }
    }

    /// The last frame was handled: the next may come.
    pub(crate) fn go_on(&self) {
        let _ = self.go_on.try_send(());
    }

    /// Writes what was handed over, then closes that direction.
    pub(crate) fn close(&mut self) {
        self.out = None;
    }
}

impl Drop for LinkTasks {
    fn drop(&mut self) {
        self.reader.abort();
        let writer = self.writer.clone();
        // Without a runtime the program is about to end.
        if let Ok(runtime) = Handle::try_current() {
            // A peer that takes nothing would hold the link for ever.
            runtime.spawn(async move {
                tokio::time::sleep(LAST_WORDS).await;
                writer.abort();
            });
        }
    }
}

async fn read(
    id: ConversationId,
    mut reader: FrameReader,
    mut permits: mpsc::Receiver<()>,
    events: mpsc::Sender<NodeEvent>,
) {
    loop {
        let event = match reader.next().await {
            Ok(Some(frame)) => NodeEvent::Frame(id, frame),
            Ok(None) => NodeEvent::LinkDown(id, None),
            Err(error) => NodeEvent::LinkDown(id, Some(error)),
        };
        let last = matches!(event, NodeEvent::LinkDown(..));
        if events.send(event).await.is_err() || last || permits.recv().await.is_none() {
            return;
        }
    }
}

async fn write(
    id: ConversationId,
    mut writer: FrameWriter,
    mut frames: mpsc::Receiver<Bytes>,
    events: mpsc::Sender<NodeEvent>,
) {
    let ended: Result<(), LinkError> = async {
        while let Some(frame) = frames.recv().await {
            writer.feed(frame).await?;
            while let Ok(frame) = frames.try_recv() {
                writer.feed(frame).await?;
            }
            writer.flush().await?;
            // Where the loop is gone, what it has handed over goes out all the same: it has counted as sent.
            let _ = events.send(NodeEvent::Writable(id)).await;
        }
        writer.close().await
    }
    .await;
    if let Err(error) = ended {
        tokio::spawn(async move {
            // What the peer sent before it went is read first; the reader finds the end as well.
            tokio::time::sleep(READ_ON).await;
            // The loop may be gone already, and then nobody needs to know.
            let _ = events.send(NodeEvent::LinkDown(id, Some(error))).await;
        });
    }
}
