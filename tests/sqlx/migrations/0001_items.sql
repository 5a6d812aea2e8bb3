CREATE TABLE sqlx_door_items (
    id bigint PRIMARY KEY,
    name text NOT NULL
);
