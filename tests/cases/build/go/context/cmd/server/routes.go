package main // routes
