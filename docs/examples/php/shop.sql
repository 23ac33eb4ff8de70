-- A dump that creates its database itself, as mysqldump --databases writes it.
CREATE DATABASE `shop` DEFAULT CHARACTER SET utf8mb4;
USE `shop`;
CREATE TABLE product (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  name VARCHAR(80) NOT NULL,
  price DECIMAL(8, 2) NOT NULL
);
INSERT INTO product (name, price) VALUES ('Crème brûlée torch', 24.90), ('Whisk', 7.50);
