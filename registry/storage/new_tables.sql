-- made by docs/scripts/tables.py from the migrations: change those
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE asset_metadata (
	asset_id INTEGER NOT NULL,
	metadata JSON NOT NULL,
	CONSTRAINT pk_asset_metadata PRIMARY KEY (asset_id),
	CONSTRAINT fk_asset_metadata_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE asset_search (
	asset_id INTEGER NOT NULL,
	text TEXT NOT NULL,
	CONSTRAINT pk_asset_search PRIMARY KEY (asset_id),
	CONSTRAINT fk_asset_search_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE derivation (
	id INTEGER NOT NULL,
	child_id INTEGER NOT NULL,
	parent_id INTEGER,
	parent_sha256 VARCHAR(64),
	parent_name TEXT NOT NULL,
	operation TEXT NOT NULL,
	parameters JSON NOT NULL, version TEXT,
	CONSTRAINT pk_derivation PRIMARY KEY (id),
	CONSTRAINT fk_derivation_child_id FOREIGN KEY(child_id) REFERENCES asset (id) ON DELETE CASCADE,
	CONSTRAINT fk_derivation_parent_id FOREIGN KEY(parent_id) REFERENCES asset (id) ON DELETE SET NULL
);
CREATE TABLE preview (
	asset_id INTEGER NOT NULL,
	verdict VARCHAR(8) NOT NULL,
	path TEXT,
	thumbnail TEXT,
	seed BIGINT NOT NULL,
	prompt TEXT NOT NULL,
	checks JSON NOT NULL,
	parameters JSON NOT NULL,
	CONSTRAINT pk_preview PRIMARY KEY (asset_id),
	CONSTRAINT fk_preview_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE source (
	id INTEGER NOT NULL,
	asset_id INTEGER NOT NULL,
	source TEXT NOT NULL,
	repo TEXT,
	revision TEXT,
	file TEXT,
	url TEXT, licence TEXT,
	CONSTRAINT pk_source PRIMARY KEY (id),
	CONSTRAINT fk_source_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE tag (
	asset_id INTEGER NOT NULL,
	name TEXT NOT NULL,
	CONSTRAINT pk_tag PRIMARY KEY (asset_id, name),
	CONSTRAINT fk_tag_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE verification (
	asset_id INTEGER NOT NULL,
	integrity VARCHAR(8),
	structure VARCHAR(8),
	checked DATETIME NOT NULL,
	CONSTRAINT pk_verification PRIMARY KEY (asset_id),
	CONSTRAINT fk_verification_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE "asset" (
	id INTEGER NOT NULL,
	blake3 VARCHAR(64),
	sha256 VARCHAR(64),
	crc32 VARCHAR(8),
	autov1 VARCHAR(8),
	autov3 VARCHAR(64),
	weights VARCHAR(64),
	name TEXT NOT NULL,
	name_folded TEXT NOT NULL,
	kind VARCHAR(32) NOT NULL,
	base VARCHAR(32) NOT NULL,
	variant VARCHAR(32),
	prediction VARCHAR(16) NOT NULL,
	layout VARCHAR(32),
	container VARCHAR(32),
	bytes BIGINT NOT NULL,
	rank INTEGER,
	tensors INTEGER NOT NULL,
	parameters BIGINT NOT NULL,
	confidence FLOAT NOT NULL,
	safety VARCHAR(16) NOT NULL,
	rating INTEGER,
	added DATETIME NOT NULL,
	updated DATETIME NOT NULL,
	algorithm JSON NOT NULL,
	dtypes JSON NOT NULL,
	components JSON NOT NULL,
	evidence JSON NOT NULL,
	problems JSON NOT NULL,
	safety_imports JSON NOT NULL,
	safety_findings JSON NOT NULL,
	trigger_words JSON NOT NULL,
	note TEXT, verdict VARCHAR(8), state VARCHAR(8) DEFAULT 'missing' NOT NULL, copies INTEGER DEFAULT '0' NOT NULL,
	CONSTRAINT pk_asset PRIMARY KEY (id),
	CONSTRAINT uq_asset_blake3 UNIQUE (blake3)
);
CREATE TABLE "file" (
	id INTEGER NOT NULL,
	path TEXT NOT NULL,
	path_folded TEXT NOT NULL,
	asset_id INTEGER NOT NULL,
	bytes BIGINT NOT NULL,
	mtime_ns BIGINT NOT NULL,
	inode VARCHAR(20) NOT NULL,
	state VARCHAR(8) NOT NULL,
	machine TEXT DEFAULT '' NOT NULL,
	CONSTRAINT pk_file PRIMARY KEY (id),
	CONSTRAINT fk_file_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE,
	CONSTRAINT uq_file_machine_path UNIQUE (machine, path)
);
CREATE TABLE "root" (
	path TEXT NOT NULL,
	machine TEXT DEFAULT '' NOT NULL,
	CONSTRAINT pk_root PRIMARY KEY (machine, path)
);
CREATE TABLE component (
	asset_id INTEGER NOT NULL,
	name VARCHAR(32) NOT NULL,
	digest VARCHAR(64) NOT NULL,
	CONSTRAINT pk_component PRIMARY KEY (asset_id, name),
	CONSTRAINT fk_component_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE asset_tensors (
	asset_id INTEGER NOT NULL,
	packed BLOB NOT NULL,
	CONSTRAINT pk_asset_tensors PRIMARY KEY (asset_id),
	CONSTRAINT fk_asset_tensors_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE "sidecar" (
	asset_id INTEGER NOT NULL,
	path TEXT NOT NULL,
	bytes BIGINT NOT NULL,
	mtime_ns BIGINT NOT NULL,
	told JSON,
	machine TEXT DEFAULT '' NOT NULL,
	CONSTRAINT pk_sidecar PRIMARY KEY (asset_id, machine, path),
	CONSTRAINT fk_sidecar_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE facet (
	name VARCHAR(16) NOT NULL,
	value TEXT NOT NULL,
	number INTEGER NOT NULL,
	CONSTRAINT pk_facet PRIMARY KEY (name, value)
);
CREATE VIRTUAL TABLE asset_words USING fts5(
            text, content='asset_search', content_rowid='asset_id', columnsize=0,
            tokenize='trigram case_sensitive 1');
CREATE VIRTUAL TABLE asset_trigrams USING fts5vocab(asset_words, row);
CREATE VIRTUAL TABLE file_words USING fts5(
            path_folded, content='file', content_rowid='id', columnsize=0,
            tokenize='trigram case_sensitive 1');
CREATE TABLE "candidate" (
	asset_id INTEGER NOT NULL,
	hash VARCHAR(8) NOT NULL,
	digest VARCHAR(64) NOT NULL,
	origin TEXT NOT NULL,
	agrees BOOLEAN,
	CONSTRAINT pk_candidate PRIMARY KEY (asset_id, hash, digest, origin),
	CONSTRAINT fk_candidate_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE alike (
	id INTEGER NOT NULL,
	kind TEXT NOT NULL,
	base TEXT NOT NULL,
	variant TEXT NOT NULL,
	container TEXT NOT NULL,
	layout TEXT NOT NULL,
	algorithm TEXT NOT NULL,
	safety TEXT NOT NULL,
	verdict TEXT NOT NULL,
	rating INTEGER NOT NULL,
	state TEXT NOT NULL,
	copies INTEGER NOT NULL,
	number INTEGER NOT NULL,
	CONSTRAINT pk_alike PRIMARY KEY (id),
	CONSTRAINT uq_alike_key UNIQUE (kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies)
);
CREATE TABLE brief (
	asset_id INTEGER NOT NULL,
	alike_id INTEGER NOT NULL,
	bytes BIGINT NOT NULL,
	tags TEXT NOT NULL,
	CONSTRAINT pk_brief PRIMARY KEY (asset_id),
	CONSTRAINT fk_brief_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE mount (
	machine TEXT DEFAULT '' NOT NULL,
	path TEXT NOT NULL,
	CONSTRAINT pk_mount PRIMARY KEY (machine, path)
);
CREATE TABLE undigested (
	asset_id INTEGER NOT NULL,
	CONSTRAINT pk_undigested PRIMARY KEY (asset_id),
	CONSTRAINT fk_undigested_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE component_tensors (
	asset_id INTEGER NOT NULL,
	name VARCHAR(32) NOT NULL,
	packed BLOB NOT NULL,
	CONSTRAINT pk_component_tensors PRIMARY KEY (asset_id, name),
	CONSTRAINT fk_component_tensors_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE TABLE named_by (
	rules INTEGER NOT NULL,
	CONSTRAINT pk_named_by PRIMARY KEY (rules)
);
CREATE TABLE unnamed (
	asset_id INTEGER NOT NULL,
	CONSTRAINT pk_unnamed PRIMARY KEY (asset_id),
	CONSTRAINT fk_unnamed_asset_id FOREIGN KEY(asset_id) REFERENCES asset (id) ON DELETE CASCADE
);
CREATE INDEX ix_asset_autov1 ON asset (autov1);
CREATE INDEX ix_asset_autov3 ON asset (autov3);
CREATE INDEX ix_asset_by_added ON asset (added, name_folded, id, kind, base, state, copies, safety, verdict, rating, bytes, variant, container, layout, algorithm, updated);
CREATE INDEX ix_asset_by_id ON asset (id, kind, base, state, copies, safety, verdict, rating, bytes, variant, container, layout, algorithm, added, updated, name_folded);
CREATE INDEX ix_asset_by_kind ON asset (kind, base, name_folded, state, copies, safety, verdict, rating, bytes, variant, container, layout, algorithm, added, updated);
CREATE INDEX ix_asset_by_name ON asset (name_folded, id, kind, base, state, copies, safety, verdict, rating, bytes, variant, container, layout, algorithm, added, updated);
CREATE INDEX ix_asset_by_size ON asset (bytes, name_folded, id, kind, base, state, copies, safety, verdict, rating, variant, container, layout, algorithm, added, updated);
CREATE INDEX ix_asset_by_updated ON asset (updated, name_folded, id, kind, base, state, copies, safety, verdict, rating, bytes, variant, container, layout, algorithm, added);
CREATE INDEX ix_asset_crc32 ON asset (crc32);
CREATE INDEX ix_asset_name ON asset (name);
CREATE INDEX ix_asset_sha256 ON asset (sha256);
CREATE INDEX ix_asset_weights ON asset (weights);
CREATE INDEX ix_brief_alike_id_bytes ON brief (alike_id, bytes);
CREATE INDEX ix_candidate_agrees ON candidate (agrees);
CREATE INDEX ix_candidate_digest ON candidate (digest);
CREATE INDEX ix_component_digest ON component (digest);
CREATE INDEX ix_derivation_child_id ON derivation (child_id);
CREATE INDEX ix_derivation_parent_id ON derivation (parent_id);
CREATE INDEX ix_derivation_parent_sha256 ON derivation (parent_sha256);
CREATE INDEX ix_file_asset_id ON file (asset_id);
CREATE INDEX ix_file_by_id ON file (id, asset_id);
CREATE INDEX ix_source_asset_id ON source (asset_id);
CREATE INDEX ix_tag_name_asset_id ON tag (name, asset_id);
CREATE TRIGGER asset_words_added AFTER INSERT ON asset_search BEGIN INSERT INTO asset_words (rowid, text) VALUES (new.asset_id, new.text); END;
CREATE TRIGGER asset_words_removed AFTER DELETE ON asset_search BEGIN INSERT INTO asset_words (asset_words, rowid, text)
        VALUES ('delete', old.asset_id, old.text); END;
CREATE TRIGGER asset_words_changed AFTER UPDATE OF asset_id, text ON asset_search WHEN old.text <> new.text BEGIN INSERT INTO asset_words (asset_words, rowid, text)
        VALUES ('delete', old.asset_id, old.text); INSERT INTO asset_words (rowid, text) VALUES (new.asset_id, new.text); END;
CREATE TRIGGER file_words_added AFTER INSERT ON file BEGIN INSERT INTO file_words (rowid, path_folded) VALUES (new.id, new.path_folded); END;
CREATE TRIGGER file_words_removed AFTER DELETE ON file BEGIN INSERT INTO file_words (file_words, rowid, path_folded)
        VALUES ('delete', old.id, old.path_folded); END;
CREATE TRIGGER file_words_changed AFTER UPDATE OF id, path_folded ON file WHEN old.path_folded <> new.path_folded BEGIN INSERT INTO file_words (file_words, rowid, path_folded)
        VALUES ('delete', old.id, old.path_folded); INSERT INTO file_words (rowid, path_folded) VALUES (new.id, new.path_folded); END;
CREATE TRIGGER preview_added AFTER INSERT ON preview BEGIN UPDATE asset SET verdict = (SELECT verdict FROM preview WHERE asset_id = asset.id) WHERE id = new.asset_id; END;
CREATE TRIGGER preview_removed AFTER DELETE ON preview BEGIN UPDATE asset SET verdict = (SELECT verdict FROM preview WHERE asset_id = asset.id) WHERE id = old.asset_id; END;
CREATE TRIGGER preview_changed AFTER UPDATE OF asset_id, verdict ON preview BEGIN UPDATE asset SET verdict = (SELECT verdict FROM preview WHERE asset_id = asset.id) WHERE id IN (old.asset_id, new.asset_id); END;
CREATE TRIGGER file_added AFTER INSERT ON file BEGIN UPDATE asset SET state = (SELECT coalesce(max(state), 'missing') FROM file WHERE asset_id = asset.id), copies = (SELECT coalesce(max(number), 0) FROM (
    SELECT count(*) AS number FROM file
    WHERE asset_id = asset.id AND state = 'present' GROUP BY machine
) AS places) WHERE id = new.asset_id AND (state <> (SELECT coalesce(max(state), 'missing') FROM file WHERE asset_id = asset.id) OR copies <> (SELECT coalesce(max(number), 0) FROM (
    SELECT count(*) AS number FROM file
    WHERE asset_id = asset.id AND state = 'present' GROUP BY machine
) AS places)); END;
CREATE TRIGGER file_removed AFTER DELETE ON file BEGIN UPDATE asset SET state = (SELECT coalesce(max(state), 'missing') FROM file WHERE asset_id = asset.id), copies = (SELECT coalesce(max(number), 0) FROM (
    SELECT count(*) AS number FROM file
    WHERE asset_id = asset.id AND state = 'present' GROUP BY machine
) AS places) WHERE id = old.asset_id AND (state <> (SELECT coalesce(max(state), 'missing') FROM file WHERE asset_id = asset.id) OR copies <> (SELECT coalesce(max(number), 0) FROM (
    SELECT count(*) AS number FROM file
    WHERE asset_id = asset.id AND state = 'present' GROUP BY machine
) AS places)); END;
CREATE TRIGGER file_changed AFTER UPDATE OF asset_id, machine, state ON file BEGIN UPDATE asset SET state = (SELECT coalesce(max(state), 'missing') FROM file WHERE asset_id = asset.id), copies = (SELECT coalesce(max(number), 0) FROM (
    SELECT count(*) AS number FROM file
    WHERE asset_id = asset.id AND state = 'present' GROUP BY machine
) AS places) WHERE id IN (old.asset_id, new.asset_id) AND (state <> (SELECT coalesce(max(state), 'missing') FROM file WHERE asset_id = asset.id) OR copies <> (SELECT coalesce(max(number), 0) FROM (
    SELECT count(*) AS number FROM file
    WHERE asset_id = asset.id AND state = 'present' GROUP BY machine
) AS places)); END;
CREATE TRIGGER asset_tallied AFTER INSERT ON asset  BEGIN INSERT INTO alike (kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies, number)
        VALUES (coalesce(new.kind, ''), coalesce(new.base, ''), coalesce(new.variant, ''), coalesce(new.container, ''), coalesce(new.layout, ''), new.algorithm, coalesce(new.safety, ''), coalesce(new.verdict, ''), coalesce(new.rating, -1), coalesce(new.state, ''), min(new.copies, 2), 1)
        ON CONFLICT (kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies) DO UPDATE SET number = alike.number + (1);
    INSERT INTO brief SELECT new.id, (SELECT id FROM alike WHERE alike.kind = coalesce(new.kind, '') AND alike.base = coalesce(new.base, '') AND alike.variant = coalesce(new.variant, '') AND alike.container = coalesce(new.container, '') AND alike.layout = coalesce(new.layout, '') AND alike.algorithm = new.algorithm AND alike.safety = coalesce(new.safety, '') AND alike.verdict = coalesce(new.verdict, '') AND alike.rating = coalesce(new.rating, -1) AND alike.state = coalesce(new.state, '') AND alike.copies = min(new.copies, 2)), new.bytes, coalesce((SELECT group_concat(name, char(65535)) FROM tag WHERE asset_id = new.id), ''); END;
CREATE TRIGGER asset_untallied AFTER DELETE ON asset  BEGIN INSERT INTO alike (kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies, number)
        VALUES (coalesce(old.kind, ''), coalesce(old.base, ''), coalesce(old.variant, ''), coalesce(old.container, ''), coalesce(old.layout, ''), old.algorithm, coalesce(old.safety, ''), coalesce(old.verdict, ''), coalesce(old.rating, -1), coalesce(old.state, ''), min(old.copies, 2), -1)
        ON CONFLICT (kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies) DO UPDATE SET number = alike.number + (-1);
     END;
CREATE TRIGGER asset_changed AFTER UPDATE OF kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies ON asset WHEN (coalesce(old.kind, '') IS NOT coalesce(new.kind, '') OR coalesce(old.base, '') IS NOT coalesce(new.base, '') OR coalesce(old.variant, '') IS NOT coalesce(new.variant, '') OR coalesce(old.container, '') IS NOT coalesce(new.container, '') OR coalesce(old.layout, '') IS NOT coalesce(new.layout, '') OR old.algorithm IS NOT new.algorithm OR coalesce(old.safety, '') IS NOT coalesce(new.safety, '') OR coalesce(old.verdict, '') IS NOT coalesce(new.verdict, '') OR coalesce(old.rating, -1) IS NOT coalesce(new.rating, -1) OR coalesce(old.state, '') IS NOT coalesce(new.state, '') OR min(old.copies, 2) IS NOT min(new.copies, 2)) BEGIN INSERT INTO alike (kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies, number)
        VALUES (coalesce(old.kind, ''), coalesce(old.base, ''), coalesce(old.variant, ''), coalesce(old.container, ''), coalesce(old.layout, ''), old.algorithm, coalesce(old.safety, ''), coalesce(old.verdict, ''), coalesce(old.rating, -1), coalesce(old.state, ''), min(old.copies, 2), -1)
        ON CONFLICT (kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies) DO UPDATE SET number = alike.number + (-1);
    INSERT INTO alike (kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies, number)
        VALUES (coalesce(new.kind, ''), coalesce(new.base, ''), coalesce(new.variant, ''), coalesce(new.container, ''), coalesce(new.layout, ''), new.algorithm, coalesce(new.safety, ''), coalesce(new.verdict, ''), coalesce(new.rating, -1), coalesce(new.state, ''), min(new.copies, 2), 1)
        ON CONFLICT (kind, base, variant, container, layout, algorithm, safety, verdict, rating, state, copies) DO UPDATE SET number = alike.number + (1);
    UPDATE brief SET alike_id = (SELECT id FROM alike WHERE alike.kind = coalesce(new.kind, '') AND alike.base = coalesce(new.base, '') AND alike.variant = coalesce(new.variant, '') AND alike.container = coalesce(new.container, '') AND alike.layout = coalesce(new.layout, '') AND alike.algorithm = new.algorithm AND alike.safety = coalesce(new.safety, '') AND alike.verdict = coalesce(new.verdict, '') AND alike.rating = coalesce(new.rating, -1) AND alike.state = coalesce(new.state, '') AND alike.copies = min(new.copies, 2)) WHERE asset_id = new.id; END;
CREATE TRIGGER asset_resized AFTER UPDATE OF bytes ON asset WHEN (old.bytes <> new.bytes) BEGIN UPDATE brief SET bytes = new.bytes WHERE asset_id = new.id; END;
CREATE TRIGGER tag_tallied AFTER INSERT ON tag  BEGIN INSERT INTO facet (name, value, number) VALUES ('tag', new.name, 1)
        ON CONFLICT (name, value) DO UPDATE SET number = facet.number + (1);
    UPDATE brief SET tags = coalesce((SELECT group_concat(name, char(65535)) FROM tag WHERE asset_id = new.asset_id), '') WHERE asset_id = new.asset_id; END;
CREATE TRIGGER tag_untallied AFTER DELETE ON tag  BEGIN INSERT INTO facet (name, value, number) VALUES ('tag', old.name, -1)
        ON CONFLICT (name, value) DO UPDATE SET number = facet.number + (-1);
    UPDATE brief SET tags = coalesce((SELECT group_concat(name, char(65535)) FROM tag WHERE asset_id = old.asset_id), '') WHERE asset_id = old.asset_id; END;
CREATE TRIGGER tag_moved AFTER UPDATE OF asset_id, name ON tag  BEGIN UPDATE brief SET tags = coalesce((SELECT group_concat(name, char(65535)) FROM tag WHERE asset_id = old.asset_id), '') WHERE asset_id = old.asset_id;UPDATE brief SET tags = coalesce((SELECT group_concat(name, char(65535)) FROM tag WHERE asset_id = new.asset_id), '') WHERE asset_id = new.asset_id; END;
INSERT INTO alembic_version (version_num) VALUES ('0016_naming');
