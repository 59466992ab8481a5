//! Entries on their way in both directions.

use super::*;

impl Session {
    pub(super) fn send_stretch(
        &mut self,
        after: IngestSeq,
        have: Vec<Have>,
        effects: &mut Effects,
    ) {
        self.out = Some(Outflow::stretch(after, self.told_head, have));
        self.read_on(effects);
    }

    pub(super) fn read_on(&mut self, effects: &mut Effects) {
        if let Some(request) = self.out.as_mut().and_then(Outflow::next) {
            self.ask(request, Want::Read, effects);
        }
    }

    pub(super) fn piece(&mut self, mut piece: Piece, effects: &mut Effects) {
        piece.entries = self.sendable(piece.entries);
        let Some(out) = &mut self.out else { return };
        match out.piece(piece) {
            Some(batch) => self.send_batch(batch, effects),
            None => self.read_on(effects),
        }
    }

    /// Without what every peer would refuse.
    pub(super) fn sendable(
        &mut self,
        mut entries: Vec<crate::entry::Entry>,
    ) -> Vec<crate::entry::Entry> {
        let all = entries.len();
        entries.retain(|entry| entry.validate().is_ok());
        let left_out = (all - entries.len()) as u64;
        // The same ones may be tried more than once in a round.
        let so_far = match &mut self.out {
            Some(out) => out.left_out(left_out),
            None => left_out,
        };
        self.report.unsendable = self.report.unsendable.max(so_far);
        entries
    }

    pub(super) fn send_batch(&mut self, batch: Batch, effects: &mut Effects) {
        self.report.sent += batch.entries.entries.len() as u64;
        self.note_lacking(&batch);
        effects.push(Effect::Send(Message::Batch(batch)));
        effects.push(Effect::Event(Event::Moved));
        self.read_on(effects);
    }

    pub(super) fn acknowledged(
        &mut self,
        ack: Ack,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        let Some(out) = &mut self.out else {
            return Err(unexpected(&Message::Ack(ack)));
        };
        if !out.acknowledged(ack.batches) {
            return Err(SessionError::Fault(
                "more batches acknowledged than were sent".to_owned(),
            ));
        }
        self.report.accepted = self.report.accepted.saturating_add(ack.inserted);
        match out.is_done() {
            true => self.sent_all(effects),
            false => self.read_on(effects),
        }
        Ok(())
    }

    pub(super) fn batch(
        &mut self,
        batch: Batch,
        effects: &mut Effects,
    ) -> Result<(), SessionError> {
        let (Some(inflow), Some(peer)) = (&mut self.incoming, &self.peer) else {
            return Err(unexpected(&Message::Batch(batch)));
        };
        let unreadable = batch.entries.unreadable;
        let mends = batch.mends == Some(true);
        let by_id = batch.stretch.is_none();
        let peer_id = peer.device_id.clone();
        let incoming = inflow
            .batch(batch)
            .map_err(|err| SessionError::Fault(err.to_string()))?;
        self.report.received += incoming.entries.len() as u64;
        self.report.unreadable += unreadable;
        if incoming.restarted {
            self.report.start = Start::OlderCopy;
            effects.push(Effect::Event(Event::Started(Start::OlderCopy)));
            self.forget_cursor(effects);
        }
        // Only where rows were found damaged here are they replaced whatever they say.
        let trusted = match self.role {
            Role::Asker => !self.they_are_damaged,
            Role::Answerer => mends,
        };
        let mends = trusted && !self.damaged.is_empty() && by_id;
        let entries = incoming.entries;
        self.note_elsewhere(&entries);
        let request = match mends {
            true => Request::Repair {
                entries,
                recount: Vec::new(),
            },
            false => Request::Store {
                peer: peer_id,
                entries,
                claim: incoming.claim,
            },
        };
        self.ask(request, Want::Store { mends }, effects);
        Ok(())
    }

    pub(super) fn stored(&mut self, stored: Stored, effects: &mut Effects) {
        self.report.inserted += stored.inserted;
        let Some(inflow) = &mut self.incoming else {
            return;
        };
        inflow.stored();
        let batches = inflow.take_owed();
        let done = inflow.is_done();
        effects.push(Effect::Send(Message::Ack(Ack {
            batches,
            inserted: stored.inserted,
        })));
        effects.push(Effect::Event(Event::Moved));
        if done {
            self.received_all(effects);
        }
    }
}
