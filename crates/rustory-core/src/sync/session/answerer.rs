//! What only the side does that was called.

use super::*;

impl Session {
    pub(super) fn accept(&mut self, effects: &mut Effects) {
        let Some(peer) = self.peer.clone() else {
            return;
        };
        let of_peer = |known: &[Known]| {
            let found = known.iter().find(|known| known.peer == peer.device_id);
            found.map(|known| known.cursor)
        };
        // Decided by what was known before the peer told its head; another session may have moved
        // the cursor since.
        let start = Start::decide(of_peer(&self.known), peer.log_id, self.theirs.head);
        if start == Start::OlderCopy {
            self.forget_cursor(effects);
        }
        let cursor = of_peer(&self.known_now)
            .filter(|cursor| cursor.log_id == peer.log_id && start != Start::OlderCopy)
            // Another session may have read on beyond what this peer offers.
            .map(|cursor| Cursor {
                seq: cursor.seq.min(self.theirs.head),
                ..cursor
            });
        self.known = std::mem::take(&mut self.known_now);
        let after = cursor.map_or(IngestSeq::ZERO, |cursor| cursor.seq);
        let reader = Reader {
            has: &self.ours,
            from: cursor.map(|cursor| cursor.seq.get()),
        };
        let have = reader.have(&self.theirs);
        let whole = reader.is_whole(&self.theirs);
        let inflow = Inflow::stretch(peer.log_id, after, self.theirs.head, whole);
        self.incoming = Some(inflow);
        effects.push(Effect::Send(Message::Accept(Wanted { cursor, have })));
    }

    pub(super) fn compare_rows(&mut self, step: Reconcile, effects: &mut Effects) {
        self.reconciler = None;
        // Answered once the rows are read.
        self.differences = Step {
            ask: Some(step.step),
            ..Step::default()
        };
        let origins = step.origins;
        self.ask(Request::Items { origins }, Want::Items, effects);
    }

    pub(super) fn answer_step(
        &mut self,
        step: &Reconcile,
        damaged: Option<bool>,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        let Some(reconciler) = &mut self.reconciler else {
            return Err(SessionError::Fault(
                "a step of a comparison that has not begun".to_owned(),
            ));
        };
        let step = reconciler
            .answer(&step.step)
            .map_err(|err| SessionError::Fault(err.to_string()))?;
        // Whatever the peer finds us to lack may come at any time from now on.
        self.incoming = Some(Inflow::any());
        effects.push(Effect::Send(Message::Reconcile(Reconcile {
            origins: None,
            first: false,
            step,
            damaged,
        })));
        Ok(())
    }
}
