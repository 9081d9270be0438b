ah
