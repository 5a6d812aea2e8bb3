ALTER TABLE sqlx_door_items ADD COLUMN price integer;

INSERT INTO sqlx_door_items (id, name, price) VALUES (1, 'lamp', 40), (2, 'chair', NULL);
