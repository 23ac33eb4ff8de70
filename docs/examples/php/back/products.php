<?php
// Host, user, password and schema stand in the source, as in many applications.
header('Content-Type: application/json');
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
try {
    $database = new mysqli('mysql', 'shop_user', 'shop-password', 'shop');
    $database->set_charset('utf8mb4');
    $products = $database->query('SELECT name, price FROM product ORDER BY id')->fetch_all(MYSQLI_ASSOC);
    echo json_encode(['backend' => gethostname(), 'user' => posix_geteuid(), 'products' => $products]);
} catch (mysqli_sql_exception $error) {
    error_log($error->getMessage());
    http_response_code(503);
    echo json_encode(['backend' => gethostname(), 'error' => 'The database is not available.']);
}
