//! Time, and how a session comes to its end.

use super::*;

impl Session {
    pub(super) fn tick(&mut self, effects: &mut Effects) -> Result<(), SessionError> {
        let now = self.now;
        if self.lease_until.is_some_and(|until| now >= until) {
            self.release(effects);
            match self.role {
                Role::Answerer => effects.push(Effect::Send(Message::Later)),
                Role::Asker => self.go_on(effects),
            }
        }
        if self.is_busy() {
            if now >= self.last_sent + WAIT_EVERY_MS {
                effects.push(Effect::Send(Message::Wait));
            }
            return Ok(());
        }
        let said = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Send(_)));
        match !said && self.owes() && now >= self.silent_at() {
            true => Err(SessionError::Silent),
            false => Ok(()),
        }
    }

    /// Whether it is our turn: the log or a lease is waited for, not the peer.
    pub(super) fn is_busy(&self) -> bool {
        !self.wants.is_empty() || self.lease_until.is_some()
    }

    /// Whether nothing is under way in either direction.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_none() && self.incoming.is_none() && self.reconciler.is_none()
    }

    pub(super) fn stays(&self) -> bool {
        self.local.stays && self.peer.as_ref().is_some_and(|peer| peer.stays)
    }

    /// Where to begin sending our log to a peer that has read it up to `cursor`.
    pub(super) fn from(&self, cursor: Option<Cursor>) -> IngestSeq {
        cursor
            .filter(|cursor| cursor.log_id == self.local.log_id && cursor.seq <= self.told_head)
            .map_or(IngestSeq::ZERO, |cursor| cursor.seq)
    }

    /// Where the asker goes on reading the peer's log.
    pub(super) fn note_cursor(&mut self) {
        if let (Role::Asker, Some(peer)) = (self.role, &self.peer) {
            let cursor = self.known_of_peer().map(|known| known.cursor);
            self.read = cursor.filter(|cursor| cursor.log_id == peer.log_id);
        }
    }

    pub(super) fn known_of_peer(&self) -> Option<&Known> {
        let peer = self.peer.as_ref()?;
        self.known.iter().find(|known| known.peer == peer.device_id)
    }

    pub(super) fn forget_cursor(&mut self, effects: &mut Effects) {
        if let Some(peer) = &self.peer {
            let (peer, log_id) = (peer.device_id.clone(), peer.log_id);
            self.ask(
                Request::ForgetCursor { peer, log_id },
                Want::Nothing,
                effects,
            );
        }
    }

    pub(super) fn ask(&mut self, request: Request, want: Want, effects: &mut Effects) {
        self.wants.push_back(want);
        effects.push(Effect::Ask(request));
    }

    pub(super) fn close(&self, reason: Reason, text: Option<&str>, effects: &mut Effects) {
        let text = text.map(str::to_owned);
        effects.push(Effect::Send(Message::Close(Close { reason, text })));
    }

    pub(super) fn fail(&mut self, err: SessionError, effects: &mut Effects) {
        match &err {
            SessionError::Fault(text) => self.close(Reason::FAULT, Some(text), effects),
            SessionError::Log(failed) => self.close(Reason::LOG, Some(&failed.text), effects),
            // It may hear that we give up, if it is there at all.
            SessionError::Silent => self.close(Reason::OTHER, Some("silence"), effects),
            _ => {}
        }
        self.end(Err(err), effects);
    }

    pub(super) fn end(&mut self, result: Result<(), SessionError>, effects: &mut Effects) {
        self.release(effects);
        self.over = true;
        effects.push(Effect::End(result));
    }
}
